package tapeworks.flink;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.runtime.state.FunctionInitializationContext;
import org.apache.flink.runtime.state.FunctionSnapshotContext;
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction;
import org.apache.flink.streaming.api.functions.source.legacy.RichSourceFunction;

/**
 * Reads tapes of this machine: for a local job, and to measure and check one.
 *
 * <p>A checkpoint holds the next offset of each tape.
 */
final class TapeSource extends RichSourceFunction<Batch> implements CheckpointedFunction {
  private static final long serialVersionUID = 1L;
  private static final int WAIT_MS = 20;
  private final Map<String, String> tapes;
  private final int itemsMax;
  private final boolean bounded;
  private transient Map<String, Long> offsets;
  private transient ListState<Tuple2<String, Long>> state;
  private transient volatile boolean isRunning;

  /** Reads `tapes`, by source; to their ends as of now where `bounded`. */
  TapeSource(Map<String, Path> tapes, int itemsMax, boolean bounded) {
    this.tapes = new TreeMap<>();
    tapes.forEach((source, path) -> this.tapes.put(source, path.toString()));
    this.itemsMax = itemsMax;
    this.bounded = bounded;
  }

  @Override
  public void initializeState(FunctionInitializationContext context) throws Exception {
    offsets = new TreeMap<>();
    state =
        context
            .getOperatorStateStore()
            .getListState(
                new ListStateDescriptor<>("offsets", Types.TUPLE(Types.STRING, Types.LONG)));
    for (Tuple2<String, Long> known : state.get()) {
      offsets.put(known.f0, known.f1);
    }
    isRunning = true;
  }

  @Override
  public void run(SourceContext<Batch> context) {
    Map<String, Long> readers = new TreeMap<>();
    try {
      for (Map.Entry<String, String> tape : tapes.entrySet()) {
        byte[] path = tape.getValue().getBytes(StandardCharsets.UTF_8);
        readers.put(tape.getKey(), Core.openTape(path, offsets.getOrDefault(tape.getKey(), -1L)));
      }
      int waitMs = 0;
      while (isRunning) {
        boolean isAny = false;
        for (Map.Entry<String, Long> reader : readers.entrySet()) {
          byte[] batch = Core.readTape(reader.getValue(), itemsMax, waitMs);
          waitMs = 0;
          if (batch.length > 0) {
            isAny = true;
            synchronized (context.getCheckpointLock()) {
              context.collect(new Batch(reader.getKey(), batch));
              offsets.put(reader.getKey(), Core.tapeOffset(reader.getValue()));
            }
          }
        }
        if (bounded && !isAny) {
          return;
        }
        // Once for all of them: quiet tapes hold up no busy one.
        waitMs = isAny ? 0 : WAIT_MS;
      }
    } finally {
      readers.values().forEach(Core::closeTape);
    }
  }

  @Override
  public void cancel() {
    isRunning = false;
  }

  @Override
  public void snapshotState(FunctionSnapshotContext context) throws Exception {
    List<Tuple2<String, Long>> known = new ArrayList<>();
    offsets.forEach((source, offset) -> known.add(Tuple2.of(source, offset)));
    state.update(known);
  }
}
