import XCTest

@testable import RnnEdge

/// Bytes of all sorts as text, beside what Python makes of them.
final class ReadableTests: XCTestCase {
    private struct Case: Decodable {
        let bytes: Data
        let text: String
    }

    func testAnyBytesReadAsInPython() throws {
        let file = URL(fileURLWithPath: "/work/bytes.json")
        let cases = try JSONDecoder().decode([Case].self, from: Data(contentsOf: file))
        XCTAssertGreaterThan(cases.count, 100)
        for each in cases { XCTAssertEqual(Bytes(readable(Bytes(each.bytes)).utf8), Bytes(each.text.utf8)) }
    }
}
