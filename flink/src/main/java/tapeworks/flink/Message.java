package tapeworks.flink;

/** One message of Kafka. */
public final class Message {
  /** The source: what stands before the first slash of the key. */
  public String source;

  /** The partition. */
  public int line;

  /** A message of proto/. */
  public byte[] body;

  public Message() {}

  Message(String source, int line, byte[] body) {
    this.source = source;
    this.line = line;
    this.body = body;
  }
}
