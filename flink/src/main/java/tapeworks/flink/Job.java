package tapeworks.flink;

import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.serialization.Encoder;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.file.sink.FileSink;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.core.execution.CheckpointingMode;
import org.apache.flink.core.io.SimpleVersionedSerializer;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.admin.Admin;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.admin.NewTopic;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.errors.TopicExistsException;
import org.apache.flink.runtime.execution.SuppressRestartsException;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.filesystem.BucketAssigner;
import org.apache.flink.streaming.api.functions.sink.filesystem.bucketassigners.SimpleVersionedStringSerializer;
import org.apache.flink.streaming.api.functions.sink.filesystem.rollingpolicies.OnCheckpointRollingPolicy;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.util.ExceptionUtils;

/** Tapeworks as a job of Flink: source, router by source, processors by instrument, sink. */
public final class Job {
  /** The exit code of a process whose job is not to be started again as it is. */
  private static final int REFUSED = 78;

  private Job() {}

  /** Runs it: on the cluster that starts it, or in this process where the settings say so. */
  public static void main(String[] words) throws Exception {
    Settings settings = Settings.read(words);
    StreamExecutionEnvironment environment = environment(settings);
    int shards = settings.number("shards");
    environment.setMaxParallelism(shards);
    environment.getConfig().enableObjectReuse();
    if (settings.number("checkpoint_ms") > 0) {
      environment.enableCheckpointing(
          settings.number("checkpoint_ms"), CheckpointingMode.EXACTLY_ONCE);
    }
    byte[] plan = settings.text("plan").getBytes(StandardCharsets.UTF_8);
    String[] topics = new String(Core.topics(plan), StandardCharsets.UTF_8).split("\n");
    boolean messages = settings.text("form").equals("messages");
    Shards keys = new Shards(shards);
    DataStream<Output> outputs =
        batches(environment, settings)
            .keyBy(batch -> batch.source)
            .transform(
                "order", TypeInformation.of(ShardFrame.class), new RouterOperator(plan, shards))
            .uid("order")
            .keyBy(frame -> keys.keyOf(frame.shard), TypeInformation.of(Integer.class))
            .transform(
                "processors",
                TypeInformation.of(Output.class),
                new InstancesOperator(plan, keys, messages))
            .uid("processors");
    drain(outputs, settings, topics);
    if (settings.text("cluster").equals("session")) {
      environment.executeAsync(settings.text("name"));
    } else {
      execute(environment, settings.text("name"));
    }
  }

  private static void execute(StreamExecutionEnvironment environment, String name)
      throws Exception {
    try {
      environment.execute(name);
    } catch (Exception error) {
      var refused = ExceptionUtils.findThrowable(error, SuppressRestartsException.class);
      if (refused.isEmpty()) {
        throw error;
      }
      System.err.println(refused.get().getCause().getMessage());
      System.exit(REFUSED);
    }
  }

  private static StreamExecutionEnvironment environment(Settings settings) {
    Configuration configuration = new Configuration();
    settings.under("flink.").forEach(configuration::setString);
    if (settings.text("cluster").equals("local")) {
      return StreamExecutionEnvironment.createLocalEnvironment(
          settings.number("parallelism"), configuration);
    }
    StreamExecutionEnvironment environment =
        settings.text("cluster").equals("session")
            ? StreamExecutionEnvironment.createRemoteEnvironment(
                settings.text("flink.rest.address"),
                settings.number("flink.rest.port"),
                configuration)
            : StreamExecutionEnvironment.getExecutionEnvironment(configuration);
    if (!settings.text("cluster").equals("remote")) {
      environment.setParallelism(settings.number("parallelism"));
    }
    return environment;
  }

  private static DataStream<Batch> batches(
      StreamExecutionEnvironment environment, Settings settings) {
    int itemsMax = settings.number("batch_items");
    boolean bounded = settings.text("bounded").equals("true");
    if (settings.text("source").equals("tape")) {
      Map<String, Path> tapes = new TreeMap<>();
      settings.under("tape.").forEach((source, path) -> tapes.put(source, Path.of(path)));
      return environment
          .addSource(
              new TapeSource(tapes, itemsMax, bounded), "tape", TypeInformation.of(Batch.class))
          .uid("tape");
    }
    Properties client = properties(settings, "kafka.source.");
    var source =
        KafkaSource.<Message>builder()
            .setTopics(settings.text("topic"))
            .setProperties(client)
            .setStartingOffsets(OffsetsInitializer.earliest())
            .setDeserializer(new MessageReader());
    if (bounded) {
      source.setBounded(OffsetsInitializer.latest());
    }
    // Partitions that run ahead wait for the others, so that what waits to be put in order is
    // bounded.
    WatermarkStrategy<Message> aligned =
        WatermarkStrategy.<Message>forMonotonousTimestamps()
            .withIdleness(Duration.ofSeconds(1))
            .withWatermarkAlignment("kafka", Duration.ofSeconds(5), Duration.ofMillis(200));
    return environment
        .fromSource(source.build(), aligned, "kafka", TypeInformation.of(Message.class))
        .uid("kafka")
        .transform("batch", TypeInformation.of(Batch.class), new BatchingOperator(itemsMax))
        .uid("batch");
  }

  private static void drain(DataStream<Output> outputs, Settings settings, String[] topics)
      throws InterruptedException, ExecutionException {
    switch (settings.text("sink")) {
      case "kafka" -> {
        String prefix = settings.text("topic_prefix");
        makeTopics(settings, prefix, topics);
        KafkaRecordSerializationSchema<Output> schema =
            (output, context, timestamp) ->
                new ProducerRecord<>(
                    prefix + topics[output.step],
                    null,
                    output.timestamp < 0 ? null : output.timestamp,
                    output.key,
                    output.body);
        outputs
            .sinkTo(
                KafkaSink.<Output>builder()
                    .setKafkaProducerConfig(properties(settings, "kafka.sink."))
                    .setRecordSerializer(schema)
                    .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
                    .setTransactionalIdPrefix(settings.text("transactional_id"))
                    .build())
            .name("kafka")
            .uid("sink");
      }
      case "files" -> {
        // Each: length of the key, key, length of what follows, that.
        Encoder<Output> encoder =
            (output, stream) -> {
              write(output.key, stream);
              write(output.body, stream);
            };
        outputs
            .sinkTo(
                FileSink.forRowFormat(
                        new org.apache.flink.core.fs.Path(settings.text("folder")), encoder)
                    .withBucketAssigner(new ByTopic(topics))
                    .withRollingPolicy(OnCheckpointRollingPolicy.build())
                    .build())
            .name("files")
            .uid("sink");
      }
      default -> outputs.sinkTo(new DiscardingSink<>()).name("nothing").uid("sink");
    }
  }

  /** Makes the topics that are missing. */
  private static void makeTopics(Settings settings, String prefix, String[] topics)
      throws InterruptedException, ExecutionException {
    List<NewTopic> wanted = new ArrayList<>();
    for (String topic : topics) {
      wanted.add(
          new NewTopic(
              prefix + topic, Optional.of(settings.number("partitions")), Optional.empty()));
    }
    try (Admin admin = Admin.create(properties(settings, "kafka.admin."))) {
      var known = admin.listTopics().names().get();
      wanted.removeIf(topic -> known.contains(topic.name()));
      for (var made : admin.createTopics(wanted).values().values()) {
        try {
          made.get();
        } catch (ExecutionException error) {
          if (!(error.getCause() instanceof TopicExistsException)) {
            throw error;
          }
        }
      }
    }
  }

  private static void write(byte[] part, OutputStream stream) throws java.io.IOException {
    stream.write(
        ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putInt(part.length).array());
    stream.write(part);
  }

  private static Properties properties(Settings settings, String prefix) {
    Properties found = new Properties();
    settings.under(prefix).forEach(found::setProperty);
    return found;
  }

  /** A folder a topic. */
  private static final class ByTopic implements BucketAssigner<Output, String> {
    private static final long serialVersionUID = 1L;
    private final String[] topics;

    ByTopic(String[] topics) {
      this.topics = topics;
    }

    @Override
    public String getBucketId(Output output, Context context) {
      return topics[output.step];
    }

    @Override
    public SimpleVersionedSerializer<String> getSerializer() {
      return SimpleVersionedStringSerializer.INSTANCE;
    }
  }
}
