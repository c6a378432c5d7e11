package tapeworks.flink;

import org.apache.flink.runtime.execution.SuppressRestartsException;

/** What the core refused, and why. */
final class CoreException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  CoreException(String message) {
    super(message);
  }

  /** A state that is not taken: it is the same at every start, so the job ends. */
  static RuntimeException refused(String what, CoreException error) {
    return new SuppressRestartsException(
        new CoreException(what + ": the state is refused: " + error.getMessage()));
  }
}
