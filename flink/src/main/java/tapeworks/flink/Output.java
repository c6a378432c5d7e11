package tapeworks.flink;

/** What a processor gives: a message, or records of one instrument. */
public final class Output {
  /** The processor's place in the plan. */
  public int step;

  /** Source and symbol. */
  public byte[] key;

  /** A message, or records. */
  public byte[] body;

  /** Event time of its last record, in ms. */
  public long timestamp;

  public Output() {}

  Output(int step, byte[] key, byte[] body, long timestamp) {
    this.step = step;
    this.key = key;
    this.body = body;
    this.timestamp = timestamp;
  }
}
