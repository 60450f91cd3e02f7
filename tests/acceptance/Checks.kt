import ai.rnnedge.Network
import ai.rnnedge.Position
import ai.rnnedge.State
import ai.rnnedge.Suggester
import ai.rnnedge.Tokenizer
import java.io.File
import kotlin.math.sin
import org.json.JSONArray
import org.json.JSONObject

/** Scores depend on everything read so far, and are easy to compute in any language. */
class Waves(private val vocabulary: Int) : Network {
    override fun start(): State = listOf(FloatArray(1))

    override fun step(tokens: List<IntArray>, states: List<State>): List<Position> =
        tokens.zip(states).map { (row, state) ->
            var value = state[0][0]
            for (token in row) value = (value / 2 + sin(token.toDouble())).toFloat()
            val logits = FloatArray(vocabulary) { (4 * sin((it + 1) * (value + 2.0))).toFloat() }
            Position(logits, listOf(floatArrayOf(value)))
        }
}

fun main(arguments: Array<String>) {
    val (tokenizerFile, checksFile) = arguments.map { File(it).readText() }
    val tokenizer = Tokenizer(JSONObject(tokenizerFile))
    val checks = JSONObject(checksFile)
    val texts = JSONArray()
    for (text in objects(checks.getJSONArray("texts"))) {
        val (settled, pending) = tokenizer.encodeTyping(text.getString("text"))
        val tokens = tokenizer.encode(text.getString("text"))
        texts.put(JSONObject().put("tokens", JSONArray(tokens)).put("settled", JSONArray(settled)).put("pending", pending)
            .put("text", text.getString("text")).put("decoded", tokenizer.decode(tokens)))
    }
    val suggester = Suggester(Waves(tokenizer.tokenBytes.size), tokenizer)
    val suggestions = JSONArray()
    for (case in objects(checks.getJSONArray("suggestions"))) {
        val found = JSONArray()
        for (each in suggester.suggest(case.getString("text"))) {
            found.put(JSONObject().put("text", each.text).put("tokens", JSONArray(each.tokens)).put("log_prob", each.logProb))
        }
        suggestions.put(JSONObject().put("text", case.getString("text")).put("completions", found))
    }
    println(JSONObject().put("texts", texts).put("suggestions", suggestions))
}

fun objects(array: JSONArray) = (0 until array.length()).map { array.getJSONObject(it) }
