package tapeworks.flink;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.runtime.state.StateInitializationContext;
import org.apache.flink.runtime.state.StateSnapshotContext;
import org.apache.flink.runtime.state.VoidNamespace;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;

/**
 * Runs the processors of each instrument.
 *
 * <p>Keyed by shard. Between checkpoints the state is in the core; a checkpoint holds, by shard and
 * instrument, what the processors' own snapshots give. Only what changed is copied.
 */
final class InstancesOperator extends AbstractStreamOperator<Output>
    implements OneInputStreamOperator<ShardFrame, Output> {
  private static final long serialVersionUID = 1L;
  private static final String STATE = "instruments";
  private final byte[] plan;
  private final Shards shards;
  private final boolean messages;
  private transient long instances;
  private transient MapState<String, byte[]> state;

  InstancesOperator(byte[] plan, Shards shards, boolean messages) {
    this.plan = plan;
    this.shards = shards;
    this.messages = messages;
  }

  @Override
  public void initializeState(StateInitializationContext context) throws Exception {
    super.initializeState(context);
    state =
        context
            .getKeyedStateStore()
            .getMapState(
                new MapStateDescriptor<>(
                    STATE,
                    Types.STRING,
                    PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO));
  }

  @Override
  public void open() throws Exception {
    super.open();
    instances = Core.newInstances(plan, messages);
    List<Integer> keys;
    try (var stored =
        this.<Integer>getKeyedStateBackend().getKeys(STATE, VoidNamespace.INSTANCE)) {
      keys = stored.distinct().toList();
    }
    for (int shard = 0; shard < shards.count(); shard++) {
      if (keys.contains(shards.keyOf(shard))) {
        setCurrentKey(shards.keyOf(shard));
        for (Map.Entry<String, byte[]> entry : state.entries()) {
          restore(shard, entry.getKey(), entry.getValue());
        }
      }
    }
  }

  private void restore(int shard, String name, byte[] bytes) {
    try {
      Core.restoreInstance(instances, shard, bytes);
    } catch (CoreException error) {
      throw CoreException.refused(name, error);
    }
  }

  @Override
  public void processElement(StreamRecord<ShardFrame> element) {
    ShardFrame frame = element.getValue();
    byte[] source = frame.source.getBytes(StandardCharsets.UTF_8);
    Parts parts = new Parts(Core.process(instances, source, frame.shard, frame.body));
    while (parts.hasNext()) {
      int step = parts.number();
      long timestamp = Math.floorDiv(parts.time(), 1_000_000L);
      Output made = new Output(step, parts.bytes(), parts.bytes(), timestamp);
      output.collect(new StreamRecord<>(made, timestamp));
    }
  }

  @Override
  public void snapshotState(StateSnapshotContext context) throws Exception {
    Parts changed = new Parts(Core.changed(instances));
    while (changed.hasNext()) {
      setCurrentKey(shards.keyOf(changed.word()));
      state.put(changed.text(), changed.bytes());
    }
    super.snapshotState(context);
  }

  @Override
  public void close() throws Exception {
    if (instances != 0) {
      Core.freeInstances(instances);
      instances = 0;
    }
    super.close();
  }
}
