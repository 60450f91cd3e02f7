import CryptoKit
import Foundation
import OnnxRuntimeBindings

/// What cannot be used, and why.
public struct RnnEdgeError: LocalizedError {
    public let errorDescription: String?

    init(_ description: String) {
        errorDescription = description
    }
}

/// A bundle, opened.
public final class Model {
    public let suggester: Suggester
    let tokenizer: Tokenizer
    private let network: OrtNetwork
    private let golden: Golden

    /// Open the bundle in this package. Sizes and hashes are checked before anything of it is parsed.
    public static func load() throws -> Model {
        try Model(in: Bundle.module.resourceURL!)
    }

    private init(in folder: URL) throws {
        let bundle = folder.appendingPathComponent("model")
        func parsed<Value: Decodable>(_ file: URL) throws -> Value {
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            return try decoder.decode(Value.self, from: Data(contentsOf: file))
        }
        let manifest: Manifest = try parsed(bundle.appendingPathComponent("manifest.json"))
        for (name, file) in manifest.files { try file.check(bundle.appendingPathComponent(name)) }
        guard let graph = manifest.graphs["step"] else { throw RnnEdgeError("this bundle has no step graph") }
        network = try OrtNetwork(bundle.appendingPathComponent(graph.file), graph)
        golden = try parsed(bundle.appendingPathComponent("golden.json"))
        tokenizer = try Tokenizer(parsed(folder.appendingPathComponent("vocabulary.json")))
        suggester = Suggester(network, tokenizer)
    }

    /// Compare with the bundle's golden vectors; returns how far the farthest number is, and throws if too far.
    @discardableResult
    public func selfTest() throws -> Double {
        var distances = [0.0]
        func compare(_ found: Float, _ expected: Double) { distances.append(abs(Double(found) - expected)) }
        for test in golden.cases {
            let position = try network.step([test.tokens], [network.start()])[0]
            for (token, logit) in zip(test.bestTokens, test.bestLogits) { compare(position.logits[token], logit) }
            for (state, (part, expected)) in zip(position.state, zip(network.parts, test.states)) {
                for (found, value) in zip(state.suffix(part.width), expected.lastLayerBegins) { compare(found, value) }
            }
        }
        if let far = distances.first(where: { !($0 <= golden.tolerance) }) {  // so that no number is far too
            throw RnnEdgeError("this device computes other numbers: \(far) off")
        }
        return distances.max()!
    }
}

struct Manifest: Decodable {
    struct File: Decodable {
        let bytes: Int
        let sha256: String

        func check(_ file: URL) throws {
            let content = try Data(contentsOf: file, options: .mappedIfSafe)
            let hash = SHA256.hash(data: content).map { String(format: "%02x", $0) }.joined()
            guard content.count == bytes, hash == sha256 else {
                throw RnnEdgeError("\(file.lastPathComponent) was changed after the export: its size or sha256 differs")
            }
        }
    }

    struct Graph: Decodable {
        let file: String
        let inputs: [Port]
    }

    struct Port: Decodable {
        let name: String
        let shape: [Size]
    }

    /// A number, or nothing where it is chosen at each call.
    struct Size: Decodable {
        let number: Int?

        init(from decoder: Decoder) throws {
            number = try? decoder.singleValueContainer().decode(Int.self)
        }
    }

    let files: [String: File]
    let graphs: [String: Graph]
}

struct Golden: Decodable {
    struct Case: Decodable {
        let tokens: [Int]
        let bestTokens: [Int]
        let bestLogits: [Double]
        let states: [Part]
    }

    struct Part: Decodable {
        let lastLayerBegins: [Double]
    }

    let tolerance: Double
    let cases: [Case]
}

/// A step graph in ONNX Runtime: tokens and a state in, logits and the next state out. Keeps no state of its own.
final class OrtNetwork: Network {
    struct Part {
        let name: String
        let layers, width: Int
    }

    let parts: [Part]
    private let environment: ORTEnv
    private let session: ORTSession

    init(_ path: URL, _ graph: Manifest.Graph) throws {
        parts = try graph.inputs.dropFirst().map {
            guard let layers = $0.shape.first?.number, let width = $0.shape.last?.number else {
                throw RnnEdgeError("this graph is not in scan form: export it for cpu")
            }
            return Part(name: $0.name, layers: layers, width: width)
        }
        environment = try ORTEnv(loggingLevel: .warning)
        let options = try ORTSessionOptions()
        try options.setIntraOpNumThreads(1)  // small networks are slower with more
        session = try ORTSession(env: environment, modelPath: path.path, sessionOptions: options)
    }

    func start() -> State {
        parts.map { Array(repeating: 0, count: $0.layers * $0.width) }
    }

    func step(_ tokens: [[Int]], _ states: [State]) throws -> [Position] {
        let batch = tokens.count
        var feed = ["tokens": try tensor(tokens.flatMap { $0.map(Int64.init) }, .int64, [batch, tokens[0].count])]
        for (index, part) in parts.enumerated() {
            let joined = (0..<part.layers).flatMap { layer in
                states.flatMap { $0[index][(layer * part.width)..<((layer + 1) * part.width)] }
            }
            feed[part.name] = try tensor(joined, .float, [part.layers, batch, part.width])
        }
        let names = Set(["logits"] + parts.map { "next_\($0.name)" })
        let found = try session.run(withInputs: feed, outputNames: names, runOptions: nil)
        let logits = try floats(found["logits"])
        let after = try parts.map { try floats(found["next_\($0.name)"]) }
        let vocabulary = logits.count / batch
        return (0..<batch).map { row in
            let state = zip(parts, after).map { part, values in
                (0..<part.layers).flatMap { values[(($0 * batch + row) * part.width)...].prefix(part.width) }
            }
            return Position(logits: Array(logits[(row * vocabulary)...].prefix(vocabulary)), state: state)
        }
    }
}

private func tensor<Number>(_ numbers: [Number], _ type: ORTTensorElementDataType, _ shape: [Int]) throws -> ORTValue {
    let data = numbers.withUnsafeBytes { NSMutableData(bytes: $0.baseAddress, length: $0.count) }
    return try ORTValue(tensorData: data, elementType: type, shape: shape.map { NSNumber(value: $0) })
}

/// A copy of a tensor's numbers, whose memory is the value's.
private func floats(_ value: ORTValue?) throws -> [Float] {
    guard let value else { throw RnnEdgeError("the graph gave no output of a name that it should") }
    return try withExtendedLifetime(value) {
        let data = try value.tensorData()
        return [Float](unsafeUninitializedCapacity: data.length / MemoryLayout<Float>.stride) { buffer, count in
            count = data.length / MemoryLayout<Float>.stride
            data.getBytes(buffer.baseAddress!, length: data.length)
        }
    }
}
