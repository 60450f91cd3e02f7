// swift-tools-version: 5.9
import PackageDescription

// On Linux, in the place of ONNX Runtime's Swift package, which is for Apple's systems only: the same names on ONNX
// Runtime's C library; and the one function of Apple's CryptoKit that the runner needs.
let package = Package(
    name: "onnxruntime-swift-package-manager",
    products: [.library(name: "onnxruntime", targets: ["OnnxRuntimeBindings", "CryptoKit"])],
    targets: [
        .systemLibrary(name: "COnnxRuntime"),
        .target(name: "OnnxRuntimeBindings", dependencies: ["COnnxRuntime"]),
        .target(name: "CryptoKit"),
    ]
)
