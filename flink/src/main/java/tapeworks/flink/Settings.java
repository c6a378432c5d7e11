package tapeworks.flink;

import java.io.IOException;
import java.io.InputStream;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;

/** What `tape flink` resolved from tapeworks.toml: in the jar, or in a file that is named. */
final class Settings {
  private static final String RESOURCE = "/tapeworks/job.properties";
  private static final String FROM_ENVIRONMENT = "env:";
  private final Properties values;

  private Settings(Properties values) {
    this.values = values;
  }

  static Settings read(String[] words) throws IOException {
    Properties values = new Properties();
    if (words.length == 2 && words[0].equals("--settings")) {
      try (Reader reader = Files.newBufferedReader(Path.of(words[1]), StandardCharsets.UTF_8)) {
        values.load(reader);
      }
    } else if (words.length == 0) {
      try (InputStream inside = Settings.class.getResourceAsStream(RESOURCE)) {
        if (inside == null) {
          throw new CoreException(
              "the jar holds no settings: make it by `tape flink package`, or give --settings FILE");
        }
        values.load(new java.io.InputStreamReader(inside, StandardCharsets.UTF_8));
      }
    } else {
      throw new CoreException("expected nothing or --settings FILE, got " + List.of(words));
    }
    return new Settings(values);
  }

  boolean has(String name) {
    return values.containsKey(name);
  }

  String text(String name) {
    String value = values.getProperty(name);
    if (value == null) {
      throw new CoreException("the setting " + name + " is missing: make the jar anew");
    }
    return value;
  }

  int number(String name) {
    return Integer.parseInt(text(name));
  }

  /** The values of all settings whose names begin with `prefix`, by the rest of the name. */
  Map<String, String> under(String prefix) {
    Map<String, String> found = new TreeMap<>();
    for (String name : values.stringPropertyNames()) {
      if (name.startsWith(prefix)) {
        found.put(name.substring(prefix.length()), resolved(name));
      }
    }
    return found;
  }

  /** Secrets are never in the jar: what begins with `env:` is looked up where the job starts. */
  private String resolved(String name) {
    String value = values.getProperty(name);
    if (!value.startsWith(FROM_ENVIRONMENT)) {
      return value;
    }
    String variable = value.substring(FROM_ENVIRONMENT.length());
    String found = System.getenv(variable);
    if (found == null) {
      throw new CoreException(name + ": " + variable + " is not in the environment");
    }
    return found;
  }
}
