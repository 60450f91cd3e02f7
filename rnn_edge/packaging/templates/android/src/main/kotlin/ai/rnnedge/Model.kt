package ai.rnnedge

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import java.nio.FloatBuffer
import java.nio.LongBuffer
import java.security.MessageDigest
import kotlin.math.abs
import kotlin.math.max
import org.json.JSONArray
import org.json.JSONObject

/**
 * A bundle, opened. On Android:
 *
 *     val model = Model.load { name -> context.assets.open("model/$name").use { it.readBytes() } }
 */
class Model private constructor(private val network: OrtNetwork, private val golden: JSONObject, tokenizer: Tokenizer) :
    AutoCloseable by network {
    val suggester = Suggester(network, tokenizer)

    /** Compare with the bundle's golden vectors; returns how far the farthest number is, and throws if too far. */
    fun selfTest(): Double {
        var worst = 0.0
        fun compare(found: Float, expected: Double) {
            worst = max(worst, abs(found - expected)) // keeps NaN
        }
        for (case in golden.getJSONArray("cases").objects()) {
            val position = network.step(listOf(case.getJSONArray("tokens").ints()), listOf(network.start()))[0]
            val logits = case.getJSONArray("best_logits")
            case.getJSONArray("best_tokens").ints().forEachIndexed { i, token ->
                compare(position.logits[token], logits.getDouble(i))
            }
            case.getJSONArray("states").objects().forEachIndexed { part, state ->
                val begins = state.getJSONArray("last_layer_begins")
                val last = position.state[part].size - network.parts[part].width
                for (i in 0 until begins.length()) compare(position.state[part][last + i], begins.getDouble(i))
            }
        }
        check(worst <= golden.getDouble("tolerance")) { "this device computes other numbers: $worst off" }
        return worst
    }

    companion object {
        /** Open a bundle; `read` gives a file's content by its name. Hashes are checked before anything is parsed. */
        fun load(read: (String) -> ByteArray): Model {
            val manifest = JSONObject(String(read("manifest.json"), Charsets.UTF_8))
            val listed = manifest.getJSONObject("files")
            val files = HashMap<String, ByteArray>()
            for (name in listed.names) files[name] = verified(name, read(name), listed.getJSONObject(name))
            fun json(name: String) = JSONObject(String(files.getValue(name), Charsets.UTF_8))
            val graph = manifest.getJSONObject("graphs").getJSONObject("step")
            val network = OrtNetwork(files.getValue(graph.getString("file")), graph)
            return Model(network, json("golden.json"), Tokenizer(json("tokenizer.json")))
        }

        private fun verified(name: String, content: ByteArray, entry: JSONObject): ByteArray {
            val hash = MessageDigest.getInstance("SHA-256").digest(content).joinToString("") { "%02x".format(it) }
            require(content.size == entry.getInt("bytes") && hash == entry.getString("sha256")) {
                "$name was changed after the export: its size or sha256 differs"
            }
            return content
        }
    }
}

/** A step graph in ONNX Runtime: tokens and a state in, logits and the next state out. Keeps no state of its own. */
class OrtNetwork(content: ByteArray, graph: JSONObject) : Network, AutoCloseable {
    class Part(val name: String, val layers: Int, val width: Int)

    private val environment = OrtEnvironment.getEnvironment()
    private val session: OrtSession =
        environment.createSession(content, OrtSession.SessionOptions().apply { setIntraOpNumThreads(1) })
    internal val parts = graph.getJSONArray("inputs").objects().drop(1).map {
        Part(it.getString("name"), it.getJSONArray("shape").getInt(0), it.getJSONArray("shape").getInt(2))
    }

    override fun start(): State = parts.map { FloatArray(it.layers * it.width) }

    override fun step(tokens: List<IntArray>, states: List<State>): List<Position> {
        val (batch, time) = Pair(tokens.size, tokens[0].size)
        val ids = LongBuffer.wrap(LongArray(batch * time) { tokens[it / time][it % time].toLong() })
        val feed = HashMap<String, OnnxTensor>()
        try {
            feed["tokens"] = OnnxTensor.createTensor(environment, ids, longArrayOf(batch.toLong(), time.toLong()))
            parts.forEachIndexed { index, part ->
                val shape = longArrayOf(part.layers.toLong(), batch.toLong(), part.width.toLong())
                val joined = FloatBuffer.wrap(join(part, states.map { it[index] }))
                feed[part.name] = OnnxTensor.createTensor(environment, joined, shape)
            }
            val result = session.run(feed)
            try {
                return split(result, batch)
            } finally {
                result.close()
            }
        } finally {
            feed.values.forEach { it.close() }
        }
    }

    override fun close() = session.close()

    private fun join(part: Part, rows: List<FloatArray>): FloatArray {
        val joined = FloatArray(part.layers * rows.size * part.width)
        for ((row, values) in rows.withIndex()) {
            for (layer in 0 until part.layers) {
                System.arraycopy(values, layer * part.width, joined, (layer * rows.size + row) * part.width, part.width)
            }
        }
        return joined
    }

    private fun split(result: OrtSession.Result, batch: Int): List<Position> {
        fun floats(name: String): FloatArray {
            val buffer = (result.get(name).get() as OnnxTensor).floatBuffer
            return FloatArray(buffer.remaining()).also { buffer.get(it) }
        }
        val logits = floats("logits")
        val vocabulary = logits.size / batch
        val after = parts.map { floats("next_${it.name}") }
        return (0 until batch).map { row ->
            val state = parts.mapIndexed { index, part ->
                FloatArray(part.layers * part.width) {
                    after[index][(it / part.width * batch + row) * part.width + it % part.width]
                }
            }
            Position(logits.copyOfRange(row * vocabulary, (row + 1) * vocabulary), state)
        }
    }
}

private fun JSONArray.objects(): List<JSONObject> = (0 until length()).map { getJSONObject(it) }

private fun JSONArray.ints(): IntArray = IntArray(length()) { getInt(it) }
