package ai.rnnedge

import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.max
import kotlin.math.min

private const val MOST_READ = 64 // paths that one search for covers reads on
private const val READ_AT_ONCE = 16
private const val POSITIONS_KEPT = 64 // so that deleting letters costs nothing

/** The state of one row: a FloatArray (layers × width) for each of the graph's states. Never written to. */
typealias State = List<FloatArray>

/** What a network expects next, a score for each token, and the state to read on from. */
class Position(val logits: FloatArray, val state: State)

interface Network {
    /** The state before the first token. */
    fun start(): State

    /** Read on in every row: tokens of equal length, and a state, for each. */
    fun step(tokens: List<IntArray>, states: List<State>): List<Position>
}

/** How a text may go on: what comes after it as typed, the tokens behind that, and their natural log-probability. */
class Suggestion(val text: String, val tokens: List<Int>, val logProb: Double)

private class Path(
    val tokens: List<Int>,
    val logProb: Double,
    val said: String,
    val newTokens: Int,
    val ended: Boolean,
    val parent: Int = 0
)

private class Cover(
    val tokens: List<Int>,
    val logProb: Double,
    val rest: String,
    val left: String,
    val state: State
)

private class Rules(val maxNewTokens: Int, val stops: List<String>)

/**
 * Suggests how a text goes on, as rnn-edge's Python runtime does: it reads what is settled once, and searches with
 * beams from the covers of the unfinished last word. For one thread at a time.
 */
class Suggester(private val network: Network, private val tokenizer: Tokenizer) {
    private val positions = LinkedHashMap<List<Int>, Position>() // by the tokens that were read
    private val sorted: List<Int>
    private val byBytes: Map<String, List<Int>>

    init {
        val leftOut = setOf(tokenizer.endId, tokenizer.unknownId)
        val spoken = tokenizer.tokenBytes.indices.filter { it !in leftOut }
        sorted = spoken.sortedBy { tokenizer.tokenBytes[it] }
        byBytes = if (tokenizer.isOfWords) emptyMap() else spoken.groupBy { tokenizer.tokenBytes[it] }
    }

    /** The likeliest continuations of a text that is still being typed, best first. */
    fun suggest(
        text: String,
        beams: Int = 8,
        count: Int = 3,
        maxNewTokens: Int = 4,
        stops: List<String> = listOf("\n")
    ): List<Suggestion> {
        val rules = Rules(maxNewTokens, stops.map { toBytes(it) })
        var (settled, pending) = tokenizer.encodeTyping(text)
        if (tokenizer.endId != null) {
            settled = listOf(tokenizer.endId) + settled
        } else if (settled.isEmpty()) {
            settled = tokenizer.encode(pending)
            pending = ""
        }
        if (settled.isEmpty()) return emptyList()
        val found = searchFrom(read(settled), pending, beams, rules)
        return found.map { Suggestion(fromBytes(it.said), it.tokens, it.logProb) }.distinctBy { it.text }.take(count)
    }

    /** Read tokens from the start, or on from the longest stretch of them that was read before. */
    private fun read(tokens: List<Int>): Position {
        val known = (tokens.size downTo 1).firstOrNull { tokens.subList(0, it) in positions } ?: 0
        val before = positions[tokens.subList(0, known)]
        val rest = tokens.drop(known)
        val position =
            if (rest.isEmpty()) before!!
            else network.step(listOf(rest.toIntArray()), listOf(before?.state ?: network.start()))[0]
        positions.remove(tokens) // and back in as the newest
        positions[tokens.toList()] = position
        if (positions.size > POSITIONS_KEPT) positions.remove(positions.keys.first())
        return position
    }

    private fun searchFrom(position: Position, pending: String, beams: Int, rules: Rules): List<Path> {
        if (pending == "") return search(listOf(Path(emptyList(), 0.0, "", 0, false)), listOf(position), beams, rules)
        var covers = covers(position, toBytes(pending), beams)
        if (covers.isEmpty()) covers = listOf(spell(position, tokenizer.encode(pending)))
        val paths = covers.map { path(it.tokens, it.logProb, it.rest, 0, if (it.rest == "") 0 else 1, 0, rules) }
        val live = covers.filterIndexed { index, _ -> !paths[index].ended }
        return search(paths, if (live.isEmpty()) emptyList() else follow(live), beams, rules)
    }

    private fun follow(covers: List<Cover>): List<Position> =
        network.step(covers.map { intArrayOf(it.tokens.last()) }, covers.map { it.state })

    /**
     * Token paths whose bytes begin with what was typed. Log-probs only fall along a path, so lengthening the likeliest
     * first finds the covers in their order.
     */
    private fun covers(position: Position, typed: String, limit: Int): List<Cover> {
        val found = ArrayList<Cover>()
        var queue = lengthen(Cover(emptyList(), 0.0, "", typed, position.state), position, limit)
        var read = 0
        while (queue.isNotEmpty() && found.size < limit) {
            queue = queue.sortedWith(LIKELIER_FIRST)
            if (queue[0].left == "") {
                found.add(queue[0])
                queue = queue.drop(1)
                continue
            }
            val partial = queue.takeWhile { it.left != "" }.take(min(limit, READ_AT_ONCE))
            queue = queue.drop(partial.size)
            read += partial.size
            if (read > MOST_READ) continue
            val after = follow(partial)
            queue = queue + partial.withIndex().flatMap { (row, cover) -> lengthen(cover, after[row], limit) }
        }
        return found
    }

    /** Covers one token longer: the `limit` best that end here, and all that do not. */
    private fun lengthen(cover: Cover, position: Position, limit: Int): List<Cover> {
        val (left, logits) = Pair(cover.left, position.logits)
        val total = logTotal(logits)
        val whole = startingWith(left).sortedWith(compareBy({ -logits[it] }, { it })).take(limit)
        val part = (1 until left.length).flatMap { byBytes[left.substring(0, it)] ?: emptyList() }
        return (whole + part).map {
            val said = tokenizer.tokenBytes[it]
            val logProb = cover.logProb + logits[it] - total
            Cover(cover.tokens + it, logProb, said.drop(left.length), left.drop(said.length), position.state)
        }
    }

    private fun startingWith(typed: String): List<Int> {
        val found = sorted.binarySearch { if (tokenizer.tokenBytes[it] < typed) -1 else 1 }
        return sorted.subList(-found - 1, sorted.size).takeWhile { tokenizer.tokenBytes[it].startsWith(typed) }
    }

    /** A cover of given tokens: the way out where none was found. */
    private fun spell(start: Position, tokens: List<Int>): Cover {
        var position = start
        var logProb = 0.0
        for ((index, token) in tokens.withIndex()) {
            logProb += position.logits[token] - logTotal(position.logits)
            if (index + 1 < tokens.size) position = network.step(listOf(intArrayOf(token)), listOf(position.state))[0]
        }
        return Cover(tokens, logProb, "", "", position.state)
    }

    /**
     * Beam search by probability: the likeliest paths that have not ended go on, until nothing that does can still be
     * among the best. Returns the paths that ended, best first.
     */
    private fun search(starts: List<Path>, first: List<Position>, beams: Int, rules: Rules): List<Path> {
        var done = starts.filter { it.ended }
        var paths = starts.filter { !it.ended }
        var positions = first
        while (paths.isNotEmpty()) {
            val grown = paths
                .withIndex()
                .flatMap { (parent, path) -> grow(path, parent, positions[parent].logits, 2 * beams, rules) }
                .sortedWith(compareBy({ -it.logProb }, { it.parent }, { it.tokens.last() }))
                .take(2 * beams)
            done = (done + grown.take(beams).filter { it.ended }).sortedBy { -it.logProb }.take(beams)
            val worst = if (done.size == beams) done.last().logProb else Double.NEGATIVE_INFINITY
            paths = grown.filter { !it.ended }.take(beams).filter { it.logProb > worst }
            if (paths.isNotEmpty()) {
                val states = paths.map { positions[it.parent].state }
                positions = network.step(paths.map { intArrayOf(it.tokens.last()) }, states)
            }
        }
        return done
    }

    private fun grow(path: Path, parent: Int, logits: FloatArray, count: Int, rules: Rules): List<Path> {
        val total = logTotal(logits)
        return best(logits, count, tokenizer.unknownId).map {
            val tokens = path.tokens + it
            val logProb = path.logProb + logits[it] - total
            val said = path.said + tokenizer.tokenBytes[it]
            if (it == tokenizer.endId) Path(tokens, logProb, path.said, path.newTokens, true, parent)
            else path(tokens, logProb, said, path.said.length, path.newTokens + 1, parent, rules)
        }
    }
}

private val LIKELIER_FIRST = Comparator<Cover> { one, other ->
    val at = one.tokens.zip(other.tokens).indexOfFirst { (mine, theirs) -> mine != theirs }
    when {
        one.logProb != other.logProb -> other.logProb.compareTo(one.logProb)
        at >= 0 -> one.tokens[at].compareTo(other.tokens[at])
        else -> one.tokens.size.compareTo(other.tokens.size)
    }
}

/** Cut what a path says at a stop string, of which none lies within the bytes checked already; tell if it ends. */
private fun path(
    tokens: List<Int>,
    logProb: Double,
    said: String,
    checked: Int,
    newTokens: Int,
    parent: Int,
    rules: Rules
): Path {
    val found = rules.stops.map { said.indexOf(it, max(0, checked - it.length + 1)) }.filter { it >= 0 }
    val stop = found.sorted().firstOrNull()
    val ended = stop != null || newTokens >= rules.maxNewTokens
    return Path(tokens, logProb, if (stop == null) said else said.substring(0, stop), newTokens, ended, parent)
}

/** The ids of the highest scores, best first; of equals, the lowest. */
private fun best(scores: FloatArray, count: Int, leftOut: Int?): List<Int> {
    val found = ArrayList<Int>()
    for (id in scores.indices) {
        if (id == leftOut || found.size == count && scores[id] <= scores[found.last()]) continue
        var at = found.size
        while (at > 0 && scores[found[at - 1]] < scores[id]) at--
        found.add(at, id)
        if (found.size > count) found.removeAt(count)
    }
    return found
}

/** log(sum(exp(scores))): a score less this is a log-prob. */
private fun logTotal(scores: FloatArray): Double {
    var highest = Float.NEGATIVE_INFINITY
    for (score in scores) highest = max(highest, score)
    var sum = 0.0
    for (score in scores) sum += exp((score - highest).toDouble())
    return highest + ln(sum)
}
