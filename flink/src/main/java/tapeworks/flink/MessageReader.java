package tapeworks.flink;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.util.Collector;

/** Takes messages as the Kafka sink of Tapeworks writes them: their key is `source/symbol`. */
final class MessageReader implements KafkaRecordDeserializationSchema<Message> {
  private static final long serialVersionUID = 1L;
  private transient Map<String, String> sources;

  @Override
  public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Message> out)
      throws IOException {
    byte[] key = record.key();
    if (key == null || record.value() == null) {
      throw new IOException(
          record.topic()
              + ", partition "
              + record.partition()
              + ", offset "
              + record.offset()
              + ": expected a message of the Kafka sink, got one without key or value");
    }
    int end = 0;
    while (end < key.length && key[end] != '/') {
      end++;
    }
    String source = new String(key, 0, end, StandardCharsets.UTF_8);
    if (sources == null) {
      sources = new HashMap<>();
    }
    // One object for all messages of a source.
    String known = sources.putIfAbsent(source, source);
    out.collect(new Message(known == null ? source : known, record.partition(), record.value()));
  }

  @Override
  public TypeInformation<Message> getProducedType() {
    return TypeInformation.of(Message.class);
  }
}
