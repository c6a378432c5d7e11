package tapeworks.flink;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/** Reads what the core returned: numbers, and bytes behind their length. */
final class Parts {
  private final ByteBuffer buffer;

  Parts(byte[] bytes) {
    buffer = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
  }

  boolean hasNext() {
    return buffer.hasRemaining();
  }

  byte number() {
    return buffer.get();
  }

  int word() {
    return buffer.getInt();
  }

  long time() {
    return buffer.getLong();
  }

  byte[] bytes() {
    byte[] part = new byte[buffer.getInt()];
    buffer.get(part);
    return part;
  }

  String text() {
    return new String(bytes(), StandardCharsets.UTF_8);
  }
}
