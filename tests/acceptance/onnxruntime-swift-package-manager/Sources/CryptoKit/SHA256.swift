import Foundation

/// Hashes as coreutils does.
public enum SHA256 {
    public static func hash(data: Data) -> [UInt8] {
        let (program, output) = (Process(), Pipe())
        let file = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try! data.write(to: file)
        defer { try! FileManager.default.removeItem(at: file) }
        program.executableURL = URL(fileURLWithPath: "/usr/bin/sha256sum")
        program.arguments = [file.path]
        program.standardOutput = output
        try! program.run()
        program.waitUntilExit()
        let digits = String(decoding: output.fileHandleForReading.readDataToEndOfFile().prefix(64), as: UTF8.self)
        let pairs = stride(from: 0, to: 64, by: 2).map { digits.dropFirst($0).prefix(2) }
        return pairs.map { UInt8($0, radix: 16)! }
    }
}
