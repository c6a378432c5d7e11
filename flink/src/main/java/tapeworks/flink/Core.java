package tapeworks.flink;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;

/**
 * The core's processors, in Rust: crates/flink. Whole batches cross the border as arrays of bytes.
 *
 * <p>A handle is an object of the core: it is used by one thread, and freed once.
 */
final class Core {
  private static final String RESOURCE = "/tapeworks/native/libtapeworks_flink.so";

  static {
    load();
  }

  private Core() {}

  /** A router of a source to a number of shards. */
  static native long newRouter(byte[] plan, byte[] source, int shards);

  /** A router from a state. */
  static native long restoreRouter(byte[] plan, int shards, byte[] state);

  /** Deals a batch; returns shard, length, frame, over and over. */
  static native byte[] deal(long router, byte[] batch);

  /** The receive time up to which all was dealt, in ns; the lowest long before the first record. */
  static native long routerWatermark(long router);

  /** The next offset of the tape. */
  static native long routerNext(long router);

  /** Bytes of records that wait for what stands before them on the tape. */
  static native long routerWaiting(long router);

  /** The whole state. */
  static native byte[] routerState(long router);

  static native void freeRouter(long router);

  /** The instruments of a task: none yet. */
  static native long newInstances(byte[] plan, boolean messages);

  /** Processes a frame; returns step, event time, length, key, length, body, over and over. */
  static native byte[] process(long instances, byte[] source, int shard, byte[] frame);

  /** States that changed since the last call: shard, length, name, length, state. */
  static native byte[] changed(long instances);

  static native void restoreInstance(long instances, int shard, byte[] state);

  static native void freeInstances(long instances);

  /** The topics that the plan writes, a line each. */
  static native byte[] topics(byte[] plan);

  /** A reader of a tape from an offset on; below 0: from its first. */
  static native long openTape(byte[] path, long offset);

  /** The next batch; empty if there is none, after a wait for one. */
  static native byte[] readTape(long reader, int itemsMax, int waitMs);

  static native long tapeOffset(long reader);

  static native void closeTape(long reader);

  /**
   * Loads the native library out of the jar. Each job of a session cluster has classes of its own,
   * and the JVM loads a file for one of them only, so each gets a copy.
   */
  private static void load() {
    try (InputStream library = Core.class.getResourceAsStream(RESOURCE)) {
      if (library == null) {
        throw new CoreException("the jar holds no native library: build it by scripts/build flink");
      }
      Path copy = Files.createTempFile("tapeworks-", ".so");
      try {
        Files.copy(library, copy, StandardCopyOption.REPLACE_EXISTING);
        System.load(copy.toAbsolutePath().toString());
      } finally {
        // What is loaded stays mapped.
        Files.deleteIfExists(copy);
      }
    } catch (IOException | UnsatisfiedLinkError error) {
      throw new CoreException(
          "the native library cannot be loaded on "
              + System.getProperty("os.name")
              + " "
              + System.getProperty("os.arch")
              + ": "
              + error);
    }
  }
}
