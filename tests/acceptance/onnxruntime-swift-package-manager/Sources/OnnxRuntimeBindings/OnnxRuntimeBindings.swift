import COnnxRuntime
import Foundation

// What the runner uses of ONNX Runtime's Objective-C interface, with the names that Swift gives it.

public enum ORTLoggingLevel: UInt32 { case verbose, info, warning, error, fatal }

public enum ORTTensorElementDataType { case float, int64 }

public struct ORTError: Error {
    public let message: String
}

private let api = OrtGetApiBase().pointee.GetApi(UInt32(ORT_API_VERSION))!.pointee

private func check(_ status: OpaquePointer?) throws {
    guard let status else { return }
    defer { api.ReleaseStatus(status) }
    throw ORTError(message: String(cString: api.GetErrorMessage(status)!))
}

public final class ORTEnv {
    fileprivate var pointer: OpaquePointer?

    public init(loggingLevel: ORTLoggingLevel) throws {
        try check(api.CreateEnv(OrtLoggingLevel(rawValue: loggingLevel.rawValue), "stand-in", &pointer))
    }

    deinit { api.ReleaseEnv(pointer) }
}

public final class ORTSessionOptions {
    fileprivate var pointer: OpaquePointer?

    public init() throws {
        try check(api.CreateSessionOptions(&pointer))
    }

    public func setIntraOpNumThreads(_ intraOpNumThreads: Int32) throws {
        try check(api.SetIntraOpNumThreads(pointer, intraOpNumThreads))
    }

    deinit { api.ReleaseSessionOptions(pointer) }
}

public final class ORTRunOptions {}

public final class ORTValue {
    fileprivate var pointer: OpaquePointer?
    private let given: NSMutableData?  // whose memory the value uses

    public init(tensorData: NSMutableData, elementType: ORTTensorElementDataType, shape: [NSNumber]) throws {
        given = tensorData
        var memory: OpaquePointer?
        try check(api.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory))
        defer { api.ReleaseMemoryInfo(memory) }
        let type = elementType == .float ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64
        let (sizes, length) = (shape.map { $0.int64Value }, tensorData.length)
        try check(
            api.CreateTensorWithDataAsOrtValue(
                memory, tensorData.mutableBytes, length, sizes, sizes.count, type, &pointer))
    }

    fileprivate init(_ pointer: OpaquePointer) {
        given = nil
        self.pointer = pointer
    }

    /// The tensor's own memory, no copy.
    public func tensorData() throws -> NSMutableData {
        var (information, bytes): (OpaquePointer?, UnsafeMutableRawPointer?)
        var count = 0
        try check(api.GetTensorTypeAndShape(pointer, &information))
        defer { api.ReleaseTensorTypeAndShapeInfo(information) }
        try check(api.GetTensorShapeElementCount(information, &count))
        try check(api.GetTensorMutableData(pointer, &bytes))
        return NSMutableData(bytesNoCopy: bytes!, length: count * MemoryLayout<Float>.stride, freeWhenDone: false)
    }

    deinit { api.ReleaseValue(pointer) }
}

public final class ORTSession {
    private var pointer: OpaquePointer?
    private let environment: ORTEnv

    public init(env: ORTEnv, modelPath: String, sessionOptions: ORTSessionOptions?) throws {
        environment = env
        try check(api.CreateSession(env.pointer, modelPath, sessionOptions?.pointer, &pointer))
    }

    public func run(
        withInputs inputs: [String: ORTValue], outputNames: Set<String>, runOptions: ORTRunOptions?
    ) throws -> [String: ORTValue] {
        let (given, wanted) = (Array(inputs), Array(outputNames))
        let names = (given.map { $0.key } + wanted).map { UnsafePointer(strdup($0)) }
        defer { for name in names { free(UnsafeMutablePointer(mutating: name)) } }
        var found = [OpaquePointer?](repeating: nil, count: wanted.count)
        try check(
            api.Run(
                pointer, nil, Array(names.prefix(given.count)), given.map { $0.value.pointer }, given.count,
                Array(names.suffix(wanted.count)), wanted.count, &found))
        return Dictionary(uniqueKeysWithValues: zip(wanted, found.map { ORTValue($0!) }))
    }

    deinit { api.ReleaseSession(pointer) }
}
