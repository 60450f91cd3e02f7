package ai.rnnedge

import java.nio.ByteBuffer
import java.nio.CharBuffer
import java.nio.charset.CodingErrorAction
import org.json.JSONObject

private const val END = "</s>"
private val SILENT = setOf(END, "<s>", "<pad>") // the last two in vocabularies of other projects only
private const val UNKNOWN = "<unk>"
private const val WHITE_SPACE = "\\t-\\r\\x{85}\\p{Z}" // Unicode's; Java's and Android's own \s differ

/**
 * Text to token ids and back, from a tokenizer.json as rnn-edge writes it: characters, words or byte-level BPE.
 *
 * Bytes are kept as strings of one character a byte, which compare, slice and join as bytes do.
 */
class Tokenizer(description: JSONObject) {
    private val model = description.getJSONObject("model")
    private val kind = description.getJSONObject("decoder").getString("type") // Sequence, Fuse or ByteLevel
    private val ids = HashMap<String, Int>()
    private val ranks = HashMap<String, Int>()
    private val cache = HashMap<String, List<Int>>()
    private val signs = byteSigns()
    private val pieces: Regex?

    val isOfWords = kind == "Fuse"
    val endId: Int?
    val unknownId: Int?

    /** What each token stands for; the end token stands for nothing. */
    val tokenBytes: List<String>

    init {
        val vocabulary = model.getJSONObject("vocab")
        for (token in vocabulary.names) ids[token] = vocabulary.getInt(token)
        endId = ids[END]
        unknownId = if (kind == "ByteLevel") null else ids[UNKNOWN]
        val bytes = signs.entries.associate { (byte, sign) -> sign to byte }
        val found = Array(ids.size) { "" }
        for ((token, id) in ids) found[id] = bytesOf(token, bytes)
        tokenBytes = found.toList()
        val merges = model.optJSONArray("merges")
        for (rank in 0 until (merges?.length() ?: 0)) {
            val pair = merges!!.optJSONArray(rank)
            ranks[if (pair == null) merges.getString(rank) else "${pair.getString(0)} ${pair.getString(1)}"] = rank
        }
        pieces = if (kind == "Sequence") null else Regex(portable(pattern(description.getJSONObject("pre_tokenizer"))))
    }

    fun encode(text: String): List<Int> =
        if (pieces == null) charactersOf(text).flatMap { character(it) } else piecesOf(text).flatMap { piece(it) }

    /** The tokens of a text that is still being typed, which stay whatever is typed next; and its pending last word. */
    fun encodeTyping(text: String): Pair<List<Int>, String> {
        if (pieces == null || text == "") return Pair(encode(text), "")
        val found = piecesOf(text)
        return Pair(found.dropLast(1).flatMap { piece(it) }, found.last())
    }

    fun decode(tokens: List<Int>): String = fromBytes(tokens.joinToString("") { tokenBytes[it] })

    private fun piecesOf(text: String): List<String> = pieces!!.findAll(text).map { it.value }.toList()

    private fun character(text: String): List<Int> {
        val id = ids[text] ?: unknownId
        if (id != null) return listOf(id)
        return toBytes(text).map {
            ids[spelled(it)] ?: throw IllegalArgumentException("this model does not know $text: leave it out")
        }
    }

    private fun piece(text: String): List<Int> {
        if (isOfWords) {
            val id = ids[text]
            return listOf(if (id == null || id == endId) unknownId!! else id)
        }
        return cache.getOrPut(text) { merge(toBytes(text).map { signs.getValue(it) }) }
    }

    /** Join the two neighbours that were learnt first, until none is left (Sennrich et al. 2016). */
    private fun merge(signs: List<String>): List<Int> {
        val parts = signs.toMutableList()
        while (true) {
            val places = (0 until parts.size - 1).filter { "${parts[it]} ${parts[it + 1]}" in ranks }
            if (places.isEmpty()) return parts.map { ids.getValue(it) }
            val best = places.sortedBy { ranks.getValue("${parts[it]} ${parts[it + 1]}") }[0]
            parts[best] += parts.removeAt(best + 1)
        }
    }

    private fun bytesOf(token: String, bytes: Map<String, Char>): String {
        if (kind == "ByteLevel") {
            return if (token == END) "" else charactersOf(token).joinToString("") { bytes.getValue(it).toString() }
        }
        if (token in SILENT) return ""
        val byte = if (kind == "Sequence") Regex("<0x([0-9A-F]{2})>").matchEntire(token) else null
        return if (byte == null) toBytes(token) else byte.groupValues[1].toInt(16).toChar().toString()
    }
}

internal val JSONObject.names: List<String>
    get() = keys().asSequence().map { it.toString() }.toList()

internal fun toBytes(text: String): String = String(text.toByteArray(Charsets.UTF_8), Charsets.ISO_8859_1)

/** Whole characters only: the beginning of a character at the end is left out. */
internal fun fromBytes(bytes: String): String {
    val decoder = Charsets.UTF_8.newDecoder()
        .onMalformedInput(CodingErrorAction.REPLACE)
        .onUnmappableCharacter(CodingErrorAction.REPLACE)
    val text = CharBuffer.allocate(bytes.length + 1)
    decoder.decode(ByteBuffer.wrap(bytes.toByteArray(Charsets.ISO_8859_1)), text, false)
    return String(text.array(), 0, text.position())
}

private fun charactersOf(text: String): List<String> {
    val found = ArrayList<String>()
    var at = 0
    while (at < text.length) {
        val length = Character.charCount(text.codePointAt(at))
        found.add(text.substring(at, at + length))
        at += length
    }
    return found
}

private fun spelled(byte: Char): String = "<0x%02X>".format(byte.toInt())

private fun pattern(preTokenizer: JSONObject): String {
    val parts = preTokenizer.optJSONArray("pretokenizers")
    return (parts?.getJSONObject(0) ?: preTokenizer).getJSONObject("pattern").getString("Regex")
}

private fun portable(pattern: String): String =
    pattern.replace("[^\\s", "[^$WHITE_SPACE").replace("\\S", "[^$WHITE_SPACE]").replace("\\s", "[$WHITE_SPACE]")

/** Which sign stands for each byte in byte-level BPE (Radford et al. 2019). */
private fun byteSigns(): Map<Char, String> {
    val printable = (33..126) + (161..172) + (174..255)
    var others = 256
    return (0..255).associate { it.toChar() to (if (it in printable) it else others++).toChar().toString() }
}
