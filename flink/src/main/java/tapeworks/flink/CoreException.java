package tapeworks.flink;

/** What the core refused, and why. */
final class CoreException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  CoreException(String message) {
    super(message);
  }
}
