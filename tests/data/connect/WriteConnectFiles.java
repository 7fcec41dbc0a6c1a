import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.GZIPOutputStream;

import com.github.luben.zstd.ZstdOutputStream;
import org.apache.avro.Schema;
import org.apache.avro.file.CodecFactory;
import org.apache.avro.file.DataFileWriter;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.parquet.avro.AvroParquetWriter;
import org.apache.parquet.hadoop.metadata.CompressionCodecName;
import org.apache.parquet.io.LocalOutputFile;
import org.xerial.snappy.SnappyOutputStream;

/**
 * Writes the records of tests/foreign_samples.py by the classes that the sinks of Kafka Connect use: Avro's DataFileWriter, parquet-mr's
 * AvroParquetWriter, JsonConverter, and the streams of snappy-java, zstd-jni and the JDK. Arguments: the folder.
 */
public final class WriteConnectFiles {
    private static final int ROWS = 40;
    private static final long T0 = 1_794_830_400_123L;
    private static final Schema ENVELOPE = new Schema.Parser().parse(
        ("{'type':'record','name':'connector_records','namespace':'io.aiven.avro','fields':["
        + "{'name':'key','type':['null','string']},"
        + "{'name':'value','type':['null',{'type':'record','name':'Pin','fields':[{'name':'id','type':'long'},"
        + "{'name':'text','type':['null','string']},{'name':'tags','type':{'type':'array','items':'string'}}]}]},"
        + "{'name':'offset','type':'long'},{'name':'timestamp','type':'long'},"
        + "{'name':'headers','type':{'type':'map','values':'bytes'}}]}").replace('\'', '"'));

    public static void main(final String[] arguments) throws Exception {
        final Path folder = Path.of(arguments[0]);
        for (final String codec : List.of("null", "deflate", "snappy", "bzip2", "xz", "zstandard")) {
            final ByteArrayOutputStream out = new ByteArrayOutputStream();
            try (DataFileWriter<GenericRecord> writer = new DataFileWriter<>(new GenericDatumWriter<>())) {
                writer.setCodec(CodecFactory.fromString(codec)).setSyncInterval(400).create(ENVELOPE, out);
                for (int n = 0; n < ROWS; n++) {
                    writer.append(envelope(n));
                }
            }
            Files.write(folder.resolve("avro-" + codec), out.toByteArray());
        }
        for (final CompressionCodecName codec : List.of(CompressionCodecName.UNCOMPRESSED, CompressionCodecName.SNAPPY,
                CompressionCodecName.GZIP, CompressionCodecName.ZSTD)) {
            final Path file = folder.resolve("parquet-" + codec.name().toLowerCase());
            Files.deleteIfExists(file);
            try (var writer = AvroParquetWriter.<GenericRecord>builder(new LocalOutputFile(file)).withSchema(ENVELOPE)
                    .withDictionaryEncoding(true).withCompressionCodec(codec).build()) {
                for (int n = 0; n < ROWS; n++) {
                    writer.write(envelope(n));
                }
            }
        }
        final byte[] lines = lines();
        Files.write(folder.resolve("jsonl-none"), lines);
        try (OutputStream out = new GZIPOutputStream(Files.newOutputStream(folder.resolve("jsonl-gzip")))) {
            out.write(lines);
        }
        try (OutputStream out = new SnappyOutputStream(Files.newOutputStream(folder.resolve("jsonl-snappy")))) {
            out.write(lines);
        }
        try (OutputStream out = new ZstdOutputStream(Files.newOutputStream(folder.resolve("jsonl-zstd")))) {
            out.write(lines);
        }
    }

    private static GenericRecord envelope(final int n) {
        final Schema pin = ENVELOPE.getField("value").schema().getTypes().get(1);
        final GenericRecord value = new GenericData.Record(pin);
        value.put("id", 1_000_000_000_000L + n);
        value.put("text", text(n));
        value.put("tags", Collections.nCopies(n % 3, "a"));
        final Map<String, Object> headers = new HashMap<>();
        if (n % 3 == 0) {
            headers.put("trace", ByteBuffer.wrap(("t" + n).getBytes(StandardCharsets.UTF_8)));
        }
        final GenericRecord found = new GenericData.Record(ENVELOPE);
        found.put("key", key(n));
        found.put("value", n == 5 ? null : value);
        found.put("offset", 100L + 2 * n);
        found.put("timestamp", T0 + n);
        found.put("headers", headers);
        return found;
    }

    /** What JsonLinesOutputStreamWriter makes of such records: JsonConverter's values, an object a line, nothing behind the last. */
    private static byte[] lines() {
        final JsonConverter converter = new JsonConverter();
        converter.configure(Map.of("schemas.enable", false), false);
        final var pin = SchemaBuilder.struct().optional().field("id", SchemaBuilder.int64().build())
            .field("text", SchemaBuilder.string().optional().build())
            .field("tags", SchemaBuilder.array(SchemaBuilder.string().build()).build()).build();
        final List<String> lines = new ArrayList<>();
        for (int n = 0; n < ROWS; n++) {
            final Struct value = n == 5 ? null : new Struct(pin).put("id", 1_000_000_000_000L + n).put("text", text(n))
                .put("tags", Collections.nCopies(n % 3, "a"));
            final byte[] json = converter.fromConnectData("pins", pin, value);
            lines.add("{\"key\":" + (key(n) == null ? "null" : "\"" + key(n) + "\"") + ",\"value\":"
                + (json == null ? "null" : new String(json, StandardCharsets.UTF_8)) + ",\"offset\":" + (100L + 2 * n)
                + ",\"timestamp\":\"" + Instant.ofEpochMilli(T0 + n) + "\",\"headers\":["
                + (n % 3 == 0 ? "{\"key\":\"trace\",\"value\":\"t" + n + "\"}" : "") + "]}");
        }
        return String.join("\n", lines).getBytes(StandardCharsets.UTF_8);
    }

    private static String key(final int n) {
        return n % 4 == 0 ? null : "k" + n;
    }

    private static String text(final int n) {
        return n % 7 == 0 ? null : "pin " + n + " \u00fc";
    }
}
