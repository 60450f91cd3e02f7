import Foundation

/// Text as UTF-8, or a part of it. Swift takes strings for equal that are spelled in different bytes, such as the two
/// spellings of "é"; a vocabulary tells them apart.
typealias Bytes = [UInt8]

/// What rnn-edge made of the bundle's tokenizer.json, whose tokens are the keys of an object: Foundation would take
/// some of them for the same.
struct Vocabulary: Decodable {
    enum Kind: String, Decodable { case characters, words, bpe }

    let kind: Kind
    let endId: Int?
    let unknownId: Int?
    let pattern: String?  // of the pieces a text is cut into, unless those are characters
    let tokens: [Data]  // what each of them says; nothing, if it ends a text
    let merges: [[Int]]  // two neighbours and what they become, first learnt first
}

/// Text to token ids and back: characters, words or byte-level BPE. For one thread at a time.
final class Tokenizer {
    let kind: Vocabulary.Kind
    let endId: Int?
    let unknownId: Int?
    let tokenBytes: [Bytes]

    private struct Pair: Hashable {
        let first, second: Int
    }

    private let ids: [Bytes: Int]
    private let ranks: [Pair: (rank: Int, merged: Int)]
    private let pieces: NSRegularExpression?
    private var cache: [Bytes: [Int]] = [:]

    init(_ vocabulary: Vocabulary) throws {
        (kind, endId, unknownId) = (vocabulary.kind, vocabulary.endId, vocabulary.unknownId)
        tokenBytes = vocabulary.tokens.map(Bytes.init)
        ids = Dictionary(zip(tokenBytes, 0...)) { $1 }  // a character stands behind the byte that would spell it
        let pairs = vocabulary.merges.map { Pair(first: $0[0], second: $0[1]) }
        let results = vocabulary.merges.enumerated().map { (rank: $0, merged: $1[2]) }
        ranks = Dictionary(uniqueKeysWithValues: zip(pairs, results))
        pieces = try vocabulary.pattern.map { try NSRegularExpression(pattern: $0) }
    }

    func encode(_ text: String) throws -> [Int] {
        kind == .characters ? try text.unicodeScalars.flatMap(character) : cut(text).flatMap(piece)
    }

    /// The tokens of a text that is still being typed, which stay whatever is typed next; and its pending last word.
    func encodeTyping(_ text: String) throws -> (settled: [Int], pending: String) {
        if kind == .characters || text.isEmpty { return (try encode(text), "") }
        let found = cut(text)
        return (found.dropLast().flatMap(piece), found[found.count - 1])
    }

    func decode(_ tokens: [Int]) -> String {
        readable(tokens.flatMap { tokenBytes[$0] })
    }

    private func cut(_ text: String) -> [String] {
        let whole = NSRange(location: 0, length: text.utf16.count)
        return pieces?.matches(in: text, range: whole).map { (text as NSString).substring(with: $0.range) } ?? []
    }

    private func character(_ scalar: Unicode.Scalar) throws -> [Int] {
        let bytes = Bytes(String(scalar).utf8)
        if let id = ids[bytes] ?? unknownId { return [id] }
        return try bytes.map {
            guard let id = ids[[$0]] else { throw RnnEdgeError("this model does not know \(scalar): leave it out") }
            return id
        }
    }

    private func piece(_ text: String) -> [Int] {
        let bytes = Bytes(text.utf8)
        if kind == .words { return [ids[bytes] ?? unknownId!] }
        if let known = cache[bytes] { return known }
        let found = merged(bytes.map { ids[[$0]]! })
        cache[bytes] = found
        return found
    }

    /// Join the two neighbours that were learnt first, until none is left (Sennrich et al. 2016).
    private func merged(_ tokens: [Int]) -> [Int] {
        var parts = tokens
        while true {
            let joins = zip(parts, parts.dropFirst()).enumerated().compactMap { place, pair in
                ranks[Pair(first: pair.0, second: pair.1)].map { (rank: $0.rank, place: place, merged: $0.merged) }
            }
            guard let best = joins.min(by: { ($0.rank, $0.place) < ($1.rank, $1.place) }) else { return parts }
            parts.replaceSubrange(best.place...(best.place + 1), with: [best.merged])
        }
    }
}

/// Bytes as text. Whole characters only: the beginning of a character at the end is left out.
func readable(_ bytes: Bytes) -> String {
    String(decoding: bytes.dropLast(unfinished(bytes)), as: UTF8.self)
}

/// How many bytes at the end begin a character, and do not finish it.
private func unfinished(_ bytes: Bytes) -> Int {
    guard let lead = bytes.indices.suffix(3).last(where: { bytes[$0] & 0xC0 != 0x80 }) else { return 0 }
    let begun = bytes[lead...]
    let wholes: [Bytes] = [
        [0xC2, 0x80], [0xE0, 0xA0, 0x80], [0xE1, 0x80, 0x80], [0xF0, 0x90, 0x80, 0x80], [0xF1, 0x80, 0x80, 0x80],
    ]
    let isUnfinished = wholes.contains { whole in
        begun.count < whole.count && String(bytes: begun + whole.dropFirst(begun.count), encoding: .utf8) != nil
    }
    return isUnfinished ? begun.count : 0
}
