package tapeworks.flink;

/** Records of one source on their way to its router. */
public final class Batch {
  /** The source. */
  public String source;

  /** Records or messages, as the core's router takes them. */
  public byte[] body;

  public Batch() {}

  Batch(String source, byte[] body) {
    this.source = source;
    this.body = body;
  }
}
