package tapeworks.flink;

import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.runtime.state.StateInitializationContext;
import org.apache.flink.runtime.state.StateSnapshotContext;
import org.apache.flink.runtime.state.VoidNamespace;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;

/**
 * Puts the records of each source in the order of its tape, and deals them to shards by instrument.
 *
 * <p>Keyed by source. The watermark is the receive time up to which all of its sources were dealt.
 */
final class RouterOperator extends AbstractStreamOperator<ShardFrame>
    implements OneInputStreamOperator<Batch, ShardFrame> {
  private static final long serialVersionUID = 1L;
  private static final String STATE = "router";

  /** What waits for messages of other partitions; beyond it, they are not there. */
  private static final long WAITING_BYTES_MAX = 512L << 20;

  private final byte[] plan;
  private final int shards;
  private transient Map<String, Long> routers;
  private transient ValueState<byte[]> state;
  private transient long told;
  private transient Map<String, Long> waits;
  private transient volatile long waiting;

  RouterOperator(byte[] plan, int shards) {
    this.plan = plan;
    this.shards = shards;
  }

  @Override
  public void initializeState(StateInitializationContext context) throws Exception {
    super.initializeState(context);
    routers = new HashMap<>();
    waits = new HashMap<>();
    state =
        context
            .getKeyedStateStore()
            .getState(
                new ValueStateDescriptor<>(
                    STATE, PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO));
  }

  @Override
  public void open() throws Exception {
    super.open();
    told = Long.MIN_VALUE;
    List<String> sources;
    try (var keys =
        this.<String>getKeyedStateBackend().getKeys(STATE, VoidNamespace.INSTANCE)) {
      sources = keys.toList();
    }
    for (String source : sources) {
      setCurrentKey(source);
      routers.put(source, restored(source, state.value()));
    }
    if (routers.isEmpty()) {
      output.emitWatermarkStatus(WatermarkStatus.IDLE);
    }
    // Records of all sources that wait for what stands before them on their tape.
    getMetricGroup().gauge("waitingBytes", (Gauge<Long>) () -> waiting);
  }

  private long restored(String source, byte[] bytes) {
    try {
      return Core.restoreRouter(plan, shards, bytes);
    } catch (CoreException error) {
      throw CoreException.refused(source, error);
    }
  }

  @Override
  public void processElement(StreamRecord<Batch> element) throws Exception {
    Batch batch = element.getValue();
    Long router = routers.get(batch.source);
    if (router == null) {
      if (routers.isEmpty()) {
        output.emitWatermarkStatus(WatermarkStatus.ACTIVE);
      }
      router = Core.newRouter(plan, batch.source.getBytes(StandardCharsets.UTF_8), shards);
      routers.put(batch.source, router);
    }
    Parts parts = new Parts(Core.deal(router, batch.body));
    while (parts.hasNext()) {
      output.collect(
          new StreamRecord<>(new ShardFrame(batch.source, parts.word(), parts.bytes())));
    }
    long held = Core.routerWaiting(router);
    waits.put(batch.source, held);
    waiting = waits.values().stream().mapToLong(Long::longValue).sum();
    if (held > WAITING_BYTES_MAX) {
      throw new CoreException(
          batch.source
              + ": offset "
              + Core.routerNext(router)
              + " did not come, and "
              + held
              + " bytes wait for it: the topic does not hold all records of the source");
    }
    advance();
  }

  private void advance() {
    long lowest = Long.MAX_VALUE;
    for (long router : routers.values()) {
      lowest = Math.min(lowest, Core.routerWatermark(router));
    }
    long ms = Math.floorDiv(lowest, 1_000_000L);
    if (lowest != Long.MIN_VALUE && ms > told) {
      told = ms;
      // What comes now may still have this time.
      output.emitWatermark(new Watermark(ms - 1));
    }
  }

  @Override
  public void processWatermark(Watermark mark) throws Exception {
    // Those of the sources say nothing of the order of a tape, but the last says that all came.
    if (mark.getTimestamp() == Long.MAX_VALUE) {
      super.processWatermark(mark);
    }
  }

  @Override
  public void processWatermarkStatus(WatermarkStatus status) {
    // As above.
  }

  @Override
  public void snapshotState(StateSnapshotContext context) throws Exception {
    for (Map.Entry<String, Long> entry : routers.entrySet()) {
      setCurrentKey(entry.getKey());
      state.update(Core.routerState(entry.getValue()));
    }
    super.snapshotState(context);
  }

  @Override
  public void close() throws Exception {
    if (routers != null) {
      routers.values().forEach(Core::freeRouter);
      routers.clear();
    }
    super.close();
  }
}
