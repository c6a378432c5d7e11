package tapeworks.flink;

import java.io.Serializable;
import org.apache.flink.runtime.state.KeyGroupRangeAssignment;

/** The key of each shard: one that Flink puts into the key group of the shard's number. */
final class Shards implements Serializable {
  private static final long serialVersionUID = 1L;
  private final int[] keys;

  Shards(int count) {
    keys = new int[count];
    boolean[] found = new boolean[count];
    int left = count;
    for (int key = 0; left > 0; key++) {
      int group = KeyGroupRangeAssignment.assignToKeyGroup(key, count);
      if (!found[group]) {
        found[group] = true;
        keys[group] = key;
        left--;
      }
    }
  }

  int count() {
    return keys.length;
  }

  Integer keyOf(int shard) {
    return keys[shard];
  }
}
