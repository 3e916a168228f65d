//! Sets `amx_is_broken` unless the compiler that built llama.cpp compiles its AMX kernels correctly.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(amx_is_broken)");
    let compiler = compiler_file();
    if let Some(path) = &compiler {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    if !compiler.is_some_and(|path| is_sound(&path)) {
        println!("cargo::rustc-cfg=amx_is_broken");
    }
}

/// The file in which `CMake` describes the compiler that built llama.cpp.
fn compiler_file() -> Option<PathBuf> {
    let folder = Path::new(&env::var_os("DEP_LLAMA_ROOT")?).join("build/CMakeFiles");
    let versions = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let mut files = versions.map(|it| it.path().join("CMakeCXXCompiler.cmake"));
    files.find(|path| path.exists())
}

/// Whether the compiler that the file describes is known to compile AMX correctly. GCC 12 and earlier remove the stores
/// to AMX's tile configuration as dead code, and the first prompt would end the process (llama.cpp's pull request
/// 26954).
fn is_sound(compiler: &Path) -> bool {
    let text = fs::read_to_string(compiler).unwrap_or_default();
    let value = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("set({name} \"")))?;
        line.split('"').next()
    };
    let major =
        value("CMAKE_CXX_COMPILER_VERSION").and_then(|it| it.split('.').next()?.parse().ok());
    match value("CMAKE_CXX_COMPILER_ID") {
        None => false,
        Some("GNU") => major.is_some_and(|major: u32| major > 12),
        Some(_) => true,
    }
}
