// Writes SequenceFiles as Secor does, with Hadoop's own classes. Launched by `python -m tests.data.secor` as a single source file.
//
// Standard input, one line a file to begin, then one line a record, fields separated by tabs:
//   file <path> <long|msgpack> <NONE|RECORD|BLOCK> <codec class or ->
//   <offset> <key in base64 or -> <timestamp or -> <value in base64>
// A MessagePack key is {1: offset, 2: key, 3: timestamp}, as in Secor's MessagePackSequenceFileReaderWriterFactory.

import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.Base64;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.io.BytesWritable;
import org.apache.hadoop.io.LongWritable;
import org.apache.hadoop.io.SequenceFile;
import org.apache.hadoop.io.SequenceFile.CompressionType;
import org.apache.hadoop.io.SequenceFile.Writer;
import org.apache.hadoop.io.compress.CompressionCodec;
import org.apache.hadoop.util.ReflectionUtils;

public class WriteSequenceFiles {
  public static void main(String[] arguments) throws Exception {
    Configuration settings = new Configuration();
    settings.setInt("io.seqfile.compress.blocksize", 4_000);  // several blocks in a small file
    settings.set("fs.defaultFS", "file:///");
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    Writer writer = null;
    boolean msgpack = false;
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      String[] fields = line.split("\t", -1);
      if (fields[0].equals("file")) {
        if (writer != null) writer.close();
        msgpack = fields[2].equals("msgpack");
        writer = open(settings, fields);
        continue;
      }
      long offset = Long.parseLong(fields[0]);
      BytesWritable value = new BytesWritable(Base64.getDecoder().decode(fields[3]));
      if (msgpack) writer.append(new BytesWritable(packed(offset, fields[1], fields[2])), value);
      else writer.append(new LongWritable(offset), value);
    }
    if (writer != null) writer.close();
  }

  private static Writer open(Configuration settings, String[] fields) throws Exception {
    CompressionType type = CompressionType.valueOf(fields[3]);
    Class<?> key = fields[2].equals("msgpack") ? BytesWritable.class : LongWritable.class;
    Writer.Option compression = Writer.compression(type);
    if (!fields[4].equals("-")) {
      compression = Writer.compression(type,
          (CompressionCodec) ReflectionUtils.newInstance(Class.forName(fields[4]), settings));
    }
    return SequenceFile.createWriter(settings, Writer.file(new Path(fields[1])), Writer.keyClass(key),
        Writer.valueClass(BytesWritable.class), compression);
  }

  private static byte[] packed(long offset, String key, String timestamp) throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    DataOutputStream out = new DataOutputStream(bytes);
    int entries = 1 + (key.equals("-") ? 0 : 1) + (timestamp.equals("-") ? 0 : 1);
    out.writeByte(0x80 | entries);
    out.writeByte(1);
    out.writeByte(0xcf);
    out.writeLong(offset);
    if (!key.equals("-")) {
      byte[] content = Base64.getDecoder().decode(key);
      out.writeByte(2);
      out.writeByte(0xc6);
      out.writeInt(content.length);
      out.write(content);
    }
    if (!timestamp.equals("-")) {
      out.writeByte(3);
      out.writeByte(0xd3);
      out.writeLong(Long.parseLong(timestamp));
    }
    return bytes.toByteArray();
  }
}
