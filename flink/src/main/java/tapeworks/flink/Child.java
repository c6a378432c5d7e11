package tapeworks.flink;

import java.io.IOException;
import java.lang.reflect.InvocationTargetException;
import java.util.Arrays;

/**
 * Runs the main class that is named, with the other words; ends when standard input does.
 *
 * <p>The process that started it holds the other end: with that gone, nobody would know of this
 * one, and another could be started on the same checkpoints.
 */
public final class Child {
  private static final int ORPHANED = 70;

  private Child() {}

  /** Runs it. */
  public static void main(String[] words) throws Throwable {
    Thread watch = new Thread(Child::awaitEnd, "parent");
    watch.setDaemon(true);
    watch.start();
    try {
      Class.forName(words[0])
          .getMethod("main", String[].class)
          .invoke(null, (Object) Arrays.copyOfRange(words, 1, words.length));
    } catch (InvocationTargetException error) {
      throw error.getCause();
    }
  }

  private static void awaitEnd() {
    try {
      while (System.in.read() >= 0) {
        // Nothing is said there.
      }
    } catch (IOException error) {
      // As its end.
    }
    // At once: what is not in a checkpoint is done again.
    Runtime.getRuntime().halt(ORPHANED);
  }
}
