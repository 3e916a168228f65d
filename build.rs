//! Tells the program whether the C++ compiler, which is llama.cpp's too, gets its AMX kernels right.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(amx_is_broken)");
    let compiler = cc::Build::new().cpp(true).get_compiler();
    // GCC 12 and earlier take the stores to AMX's tile configuration for dead, and the first prompt would end the
    // process (llama.cpp's pull request 26954).
    if compiler.is_like_gnu() && major_version(compiler.to_command()).is_none_or(|it| it <= 12) {
        println!("cargo::rustc-cfg=amx_is_broken");
    }
}

fn major_version(mut compiler: Command) -> Option<u32> {
    let version = compiler.arg("-dumpversion").output().ok()?.stdout;
    let version = String::from_utf8(version).ok()?;
    version.trim().split('.').next()?.parse().ok()
}
