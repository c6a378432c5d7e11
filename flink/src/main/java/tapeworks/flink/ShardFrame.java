package tapeworks.flink;

/** What a router deals to the instruments of one shard. */
public final class ShardFrame {
  /** The source. */
  public String source;

  /** The shard, which is also the number of its key group. */
  public int shard;

  /** The frame. */
  public byte[] body;

  public ShardFrame() {}

  ShardFrame(String source, int shard, byte[] body) {
    this.source = source;
    this.shard = shard;
    this.body = body;
  }
}
