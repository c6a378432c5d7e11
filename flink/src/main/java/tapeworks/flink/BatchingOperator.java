package tapeworks.flink;

import java.io.ByteArrayOutputStream;
import java.util.HashMap;
import java.util.Map;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.BoundedOneInput;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;

/**
 * Puts the messages of a source together, so that the border to the core is crossed once for many.
 *
 * <p>A batch waits for no longer than a few milliseconds, and for no checkpoint.
 */
final class BatchingOperator extends AbstractStreamOperator<Batch>
    implements OneInputStreamOperator<Message, Batch>, BoundedOneInput {
  private static final long serialVersionUID = 1L;
  private static final byte MESSAGES = 2;
  private static final long WAIT_MS = 10;
  private static final int BYTES_MAX = 1 << 20;
  private final int itemsMax;
  private transient Map<String, Open> open;
  private transient boolean isTimed;

  BatchingOperator(int itemsMax) {
    this.itemsMax = itemsMax;
  }

  /** A batch that is being made. */
  private static final class Open {
    final ByteArrayOutputStream bytes = new ByteArrayOutputStream(1 << 16);
    int items;
  }

  @Override
  public void open() throws Exception {
    super.open();
    open = new HashMap<>();
  }

  @Override
  public void processElement(StreamRecord<Message> element) {
    Message message = element.getValue();
    Open batch = open.computeIfAbsent(message.source, source -> new Open());
    if (batch.items == 0) {
      batch.bytes.write(MESSAGES);
    }
    write(batch.bytes, message.line);
    write(batch.bytes, message.body.length);
    batch.bytes.write(message.body, 0, message.body.length);
    batch.items++;
    if (batch.items >= itemsMax || batch.bytes.size() >= BYTES_MAX) {
      send(message.source, batch);
    } else if (!isTimed) {
      isTimed = true;
      var time = getProcessingTimeService();
      time.registerTimer(
          time.getCurrentProcessingTime() + WAIT_MS,
          when -> {
            isTimed = false;
            sendAll();
          });
    }
  }

  private static void write(ByteArrayOutputStream bytes, int word) {
    bytes.write(word);
    bytes.write(word >>> 8);
    bytes.write(word >>> 16);
    bytes.write(word >>> 24);
  }

  private void send(String source, Open batch) {
    output.collect(new StreamRecord<>(new Batch(source, batch.bytes.toByteArray())));
    batch.bytes.reset();
    batch.items = 0;
  }

  private void sendAll() {
    open.forEach(
        (source, batch) -> {
          if (batch.items > 0) {
            send(source, batch);
          }
        });
  }

  @Override
  public void prepareSnapshotPreBarrier(long checkpointId) {
    // Nothing is kept over a checkpoint, so there is no state.
    sendAll();
  }

  @Override
  public void endInput() {
    sendAll();
  }
}
