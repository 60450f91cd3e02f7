import XCTest

@testable import RnnEdge

/// The golden vectors, and what Python's tokenizer and suggestions gave, on whatever device this runs.
final class RnnEdgeTests: XCTestCase {
    func testTheNetworkGivesTheGoldenVectors() throws {
        try Model.load().selfTest()
    }

    func testTheTokenizerGivesWhatPythonGives() throws {
        let tokenizer = try Model.load().tokenizer
        for expected in try Checks.load().texts {
            let (settled, pending) = try tokenizer.encodeTyping(expected.text)
            XCTAssertEqual(try tokenizer.encode(expected.text), expected.tokens, expected.text)
            XCTAssertEqual(settled, expected.settled, expected.text)
            XCTAssertEqual(Bytes(pending.utf8), Bytes(expected.pending.utf8))
            XCTAssertEqual(Bytes(tokenizer.decode(expected.tokens).utf8), Bytes(expected.decoded.utf8))
        }
    }

    func testTheSuggestionsAreThoseOfPython() throws {
        let suggester = try Model.load().suggester
        for expected in try Checks.load().suggestions {
            let found = try suggester.suggest(expected.text)
            XCTAssertEqual(found.map { Bytes($0.text.utf8) }, expected.completions.map { Bytes($0.text.utf8) })
            for (one, other) in zip(found, expected.completions) {
                XCTAssertEqual(one.logProb, other.logProb, accuracy: 1e-3, expected.text)
            }
        }
    }
}

private struct Checks: Decodable {
    struct Text: Decodable {
        let text: String
        let tokens: [Int]
        let settled: [Int]
        let pending: String
        let decoded: String
    }

    struct Suggestions: Decodable {
        let text: String
        let completions: [Completion]
    }

    struct Completion: Decodable {
        let text: String
        let logProb: Double
    }

    let texts: [Text]
    let suggestions: [Suggestions]

    static func load() throws -> Checks {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let file = Bundle.module.resourceURL!.appendingPathComponent("checks.json")
        return try decoder.decode(Checks.self, from: Data(contentsOf: file))
    }
}
