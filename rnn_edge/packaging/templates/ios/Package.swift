// swift-tools-version: 5.9
import PackageDescription

let package = Package(
    name: "RnnEdge",
    platforms: [.iOS(.v16), .macOS(.v14)],
    products: [.library(name: "RnnEdge", targets: ["RnnEdge"])],
    dependencies: [
        .package(url: "https://github.com/microsoft/onnxruntime-swift-package-manager", from: "1.20.0")
    ],
    targets: [
        .target(
            name: "RnnEdge",
            dependencies: [.product(name: "onnxruntime", package: "onnxruntime-swift-package-manager")],
            resources: [.copy("model"), .copy("vocabulary.json")]
        ),
        .testTarget(name: "RnnEdgeTests", dependencies: ["RnnEdge"], resources: [.copy("checks.json")]),
    ]
)
