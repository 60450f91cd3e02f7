plugins {
    id("com.android.library")
    kotlin("android")
}

android {
    namespace = "ai.rnnedge"
    compileSdk = 35
    defaultConfig { minSdk = 24 }
    androidResources { noCompress += "onnx" }
}

dependencies {
    implementation("com.microsoft.onnxruntime:onnxruntime-android:1.23.0") // or newer
}
