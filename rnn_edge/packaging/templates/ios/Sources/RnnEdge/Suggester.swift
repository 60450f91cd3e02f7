import Foundation

private let mostRead = 64  // paths that one search for covers reads on
private let readAtOnce = 16
private let positionsKept = 64  // so that deleting letters costs nothing

/// The state of one row: layers × width numbers for each of the graph's states.
typealias State = [[Float]]

/// What a network expects next, a score for each token, and the state to read on from.
struct Position {
    let logits: [Float]
    let state: State
}

protocol Network {
    /// The state before the first token.
    func start() -> State

    /// Read on in every row: tokens of equal length, and a state, for each.
    func step(_ tokens: [[Int]], _ states: [State]) throws -> [Position]
}

/// How a text may go on: what comes after it as typed, the tokens behind that, and their natural log-probability.
public struct Suggestion: Equatable {
    public let text: String
    public let tokens: [Int]
    public let logProb: Double
}

private struct Path {
    let tokens: [Int]
    let logProb: Double
    let said: Bytes
    let newTokens: Int
    let ended: Bool
    var parent = 0
}

private struct Cover {
    let tokens: [Int]
    let logProb: Double
    let rest: Bytes
    let left: Bytes
    let state: State
}

private struct Rules {
    let maxNewTokens: Int
    let stops: [Bytes]
}

/// Suggests how a text goes on, as rnn-edge's Python runtime does: it reads what is settled once, and searches with
/// beams from the covers of the unfinished last word. For one thread at a time.
public final class Suggester {
    private let network: Network
    private let tokenizer: Tokenizer
    private let sorted: [Int]
    private let byBytes: [Bytes: [Int]]
    private var positions: [[Int]: Position] = [:]  // by the tokens that were read
    private var newestLast: [[Int]] = []

    init(_ network: Network, _ tokenizer: Tokenizer) {
        self.network = network
        self.tokenizer = tokenizer
        let said = tokenizer.tokenBytes
        let spoken = said.indices.filter { $0 != tokenizer.endId && $0 != tokenizer.unknownId }
        sorted = spoken.sorted { said[$0] == said[$1] ? $0 < $1 : said[$0].lexicographicallyPrecedes(said[$1]) }
        byBytes = tokenizer.kind == .words ? [:] : Dictionary(grouping: spoken) { said[$0] }
    }

    /// The likeliest continuations of a text that is still being typed, best first.
    public func suggest(
        _ typed: String, beams: Int = 8, count: Int = 3, maxNewTokens: Int = 4, stops: [String] = ["\n"]
    ) throws -> [Suggestion] {
        let rules = Rules(maxNewTokens: maxNewTokens, stops: stops.map { Bytes($0.utf8) })
        var (settled, pending) = try tokenizer.encodeTyping(typed)
        if let endId = tokenizer.endId {
            settled.insert(endId, at: 0)
        } else if settled.isEmpty {
            (settled, pending) = (try tokenizer.encode(pending), "")
        }
        if settled.isEmpty { return [] }
        var suggestions: [Suggestion] = []
        for path in try searchFrom(try read(settled), pending, beams, rules) where suggestions.count < count {
            let suggestion = Suggestion(text: readable(path.said), tokens: path.tokens, logProb: path.logProb)
            if !suggestions.contains(where: { Bytes($0.text.utf8) == Bytes(suggestion.text.utf8) }) {
                suggestions.append(suggestion)
            }
        }
        return suggestions
    }

    /// Read tokens from the start, or on from the longest stretch of them that was read before.
    private func read(_ tokens: [Int]) throws -> Position {
        let known = (0...tokens.count).last { positions[Array(tokens[..<$0])] != nil } ?? 0
        var position = positions[Array(tokens[..<known])]
        if known < tokens.count {
            position = try network.step([Array(tokens[known...])], [position?.state ?? network.start()])[0]
        }
        positions[tokens] = position
        newestLast.removeAll { $0 == tokens }
        newestLast.append(tokens)
        if newestLast.count > positionsKept { positions[newestLast.removeFirst()] = nil }
        return position!
    }

    private func searchFrom(_ position: Position, _ pending: String, _ beams: Int, _ rules: Rules) throws -> [Path] {
        if pending.isEmpty {
            let nothing = Path(tokens: [], logProb: 0, said: [], newTokens: 0, ended: false)
            return try search([nothing], [position], beams, rules)
        }
        var covers = try covers(position, Bytes(pending.utf8), beams)
        if covers.isEmpty { covers = [try spell(position, tokenizer.encode(pending))] }
        let paths = covers.map { path($0.tokens, $0.logProb, $0.rest, 0, $0.rest.isEmpty ? 0 : 1, 0, rules) }
        let live = zip(covers, paths).filter { !$1.ended }.map { $0.0 }
        return try search(paths, live.isEmpty ? [] : try follow(live), beams, rules)
    }

    private func follow(_ covers: [Cover]) throws -> [Position] {
        try network.step(covers.map { [$0.tokens[$0.tokens.count - 1]] }, covers.map { $0.state })
    }

    /// Token paths whose bytes begin with what was typed. Log-probs only fall along a path, so lengthening the likeliest
    /// first finds the covers in their order.
    private func covers(_ position: Position, _ typed: Bytes, _ limit: Int) throws -> [Cover] {
        var found: [Cover] = []
        let start = Cover(tokens: [], logProb: 0, rest: [], left: typed, state: position.state)
        var queue = lengthen(start, position, limit)
        var read = 0
        while !queue.isEmpty && found.count < limit {
            queue.sort(by: isLikelier)
            if queue[0].left.isEmpty {
                found.append(queue.removeFirst())
                continue
            }
            let partial = Array(queue.prefix { !$0.left.isEmpty }.prefix(min(limit, readAtOnce)))
            queue.removeFirst(partial.count)
            read += partial.count
            if read > mostRead { continue }
            for (cover, after) in zip(partial, try follow(partial)) { queue += lengthen(cover, after, limit) }
        }
        return found
    }

    /// Covers one token longer: the `limit` best that end here, and all that do not.
    private func lengthen(_ cover: Cover, _ position: Position, _ limit: Int) -> [Cover] {
        let (left, logits, total) = (cover.left, position.logits, logTotal(position.logits))
        let whole = startingWith(left).sorted { logits[$0] == logits[$1] ? $0 < $1 : logits[$0] > logits[$1] }
        let part = (1..<left.count).flatMap { byBytes[Array(left.prefix($0))] ?? [] }
        return (whole.prefix(limit) + part).map { token in
            let said = tokenizer.tokenBytes[token]
            return Cover(
                tokens: cover.tokens + [token],
                logProb: cover.logProb + Double(logits[token]) - total,
                rest: Array(said.dropFirst(left.count)),
                left: Array(left.dropFirst(said.count)),
                state: position.state
            )
        }
    }

    private func startingWith(_ typed: Bytes) -> ArraySlice<Int> {
        var (low, high) = (0, sorted.count)
        while low < high {
            let middle = (low + high) / 2
            let isBefore = tokenizer.tokenBytes[sorted[middle]].lexicographicallyPrecedes(typed)
            (low, high) = isBefore ? (middle + 1, high) : (low, middle)
        }
        return sorted[low...].prefix { tokenizer.tokenBytes[$0].starts(with: typed) }
    }

    /// A cover of given tokens: the way out where none was found.
    private func spell(_ start: Position, _ tokens: [Int]) throws -> Cover {
        var position = start
        var logProb = 0.0
        for (index, token) in tokens.enumerated() {
            if index > 0 { position = try network.step([[tokens[index - 1]]], [position.state])[0] }
            logProb += Double(position.logits[token]) - logTotal(position.logits)
        }
        return Cover(tokens: tokens, logProb: logProb, rest: [], left: [], state: position.state)
    }

    /// Beam search by probability: the likeliest paths that have not ended go on, until nothing that does can still be
    /// among the best. Returns the paths that ended, best first.
    private func search(_ starts: [Path], _ first: [Position], _ beams: Int, _ rules: Rules) throws -> [Path] {
        var done = starts.filter { $0.ended }
        var paths = starts.filter { !$0.ended }
        var positions = first
        while !paths.isEmpty {
            let grown = likeliest(
                zip(paths, positions).enumerated().flatMap { parent, each in
                    grow(each.0, parent, each.1.logits, 2 * beams, rules)
                }, 2 * beams)
            done = likeliest(done + grown.prefix(beams).filter { $0.ended }, beams)
            let worst = done.count == beams ? done[beams - 1].logProb : -.infinity
            paths = grown.filter { !$0.ended }.prefix(beams).filter { $0.logProb > worst }
            if !paths.isEmpty {
                let tokens = paths.map { [$0.tokens[$0.tokens.count - 1]] }
                positions = try network.step(tokens, paths.map { positions[$0.parent].state })
            }
        }
        return done
    }

    /// The best ways to go on with a path, of equals the lowest token first.
    private func grow(_ path: Path, _ parent: Int, _ logits: [Float], _ count: Int, _ rules: Rules) -> [Path] {
        let total = logTotal(logits)
        return best(logits, count, leftOut: tokenizer.unknownId).sorted().map { token in
            let tokens = path.tokens + [token]
            let logProb = path.logProb + Double(logits[token]) - total
            if token == tokenizer.endId {
                let (said, count) = (path.said, path.newTokens)
                return Path(tokens: tokens, logProb: logProb, said: said, newTokens: count, ended: true, parent: parent)
            }
            let said = path.said + tokenizer.tokenBytes[token]
            return RnnEdge.path(tokens, logProb, said, path.said.count, path.newTokens + 1, parent, rules)
        }
    }
}

private func isLikelier(_ one: Cover, _ other: Cover) -> Bool {
    one.logProb == other.logProb
        ? one.tokens.lexicographicallyPrecedes(other.tokens) : one.logProb > other.logProb
}

/// The likeliest of some paths, of equals the earliest.
private func likeliest(_ paths: [Path], _ count: Int) -> [Path] {
    let order = paths.indices.sorted {
        paths[$0].logProb == paths[$1].logProb ? $0 < $1 : paths[$0].logProb > paths[$1].logProb
    }
    return order.prefix(count).map { paths[$0] }
}

/// Cut what a path says at a stop string, of which none lies within the bytes checked already; tell if it ends.
private func path(
    _ tokens: [Int], _ logProb: Double, _ said: Bytes, _ checked: Int, _ newTokens: Int, _ parent: Int, _ rules: Rules
) -> Path {
    let stop = rules.stops.compactMap { find($0, in: said, from: max(0, checked - $0.count + 1)) }.min()
    let ended = stop != nil || newTokens >= rules.maxNewTokens
    let kept = stop.map { Array(said[..<$0]) } ?? said
    return Path(tokens: tokens, logProb: logProb, said: kept, newTokens: newTokens, ended: ended, parent: parent)
}

private func find(_ wanted: Bytes, in bytes: Bytes, from first: Int) -> Int? {
    bytes.indices.dropFirst(first).first { bytes[$0...].starts(with: wanted) }
}

/// The ids of the highest scores, best first; of equals, the lowest.
private func best(_ scores: [Float], _ count: Int, leftOut: Int?) -> [Int] {
    var found: [Int] = []
    for (id, score) in scores.enumerated() where id != leftOut {
        if found.count == count && score <= scores[found[count - 1]] { continue }
        var at = found.count
        while at > 0 && scores[found[at - 1]] < score { at -= 1 }
        found.insert(id, at: at)
        if found.count > count { found.removeLast() }
    }
    return found
}

/// log(sum(exp(scores))): a score less this is a log-prob.
private func logTotal(_ scores: [Float]) -> Double {
    let highest = scores.max() ?? 0
    return Double(highest) + log(scores.reduce(0) { $0 + exp(Double($1 - highest)) })
}
