//! The build of llama.cpp, and the devices that it runs on.

use std::ffi::{CStr, c_char};

use super::free_memory::FreeMemory;
use super::{start, sys};

/// An instruction set that ggml has faster kernels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuFeature {
    /// Its usual name: `AVX2`, `AVX512_VNNI`, `DOTPROD`, …
    pub name: &'static str,
    /// Whether ggml was compiled to use it.
    pub built: bool,
    /// Whether this CPU has it. If it does but ggml was not built for it, decoding is slower than it could be.
    pub cpu: bool,
}

/// A device that a model can run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// ggml's name: `CPU`, `CUDA0`, …
    pub name: String,
    /// The name of the hardware.
    pub description: String,
    /// Whether it is a graphics card, integrated or not.
    pub is_gpu: bool,
    /// Free memory, in bytes.
    pub memory_free: u64,
    /// Total memory, in bytes.
    pub memory_total: u64,
}

/// Makes a [`CpuFeature`] from ggml's compile-time constant and a run-time check of the CPU.
macro_rules! feature {
    ($name:literal, $ggml:ident, $detected:expr) => {
        CpuFeature {
            name: $name,
            // SAFETY: reads a constant of the build.
            built: unsafe { sys::$ggml() } != 0,
            cpu: $detected,
        }
    };
}

/// The instruction sets that make ggml faster on this kind of CPU.
#[must_use]
pub fn cpu_features() -> Vec<CpuFeature> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as detected;
        vec![
            feature!("AVX", ggml_cpu_has_avx, detected!("avx")),
            feature!("AVX2", ggml_cpu_has_avx2, detected!("avx2")),
            feature!("FMA", ggml_cpu_has_fma, detected!("fma")),
            feature!("F16C", ggml_cpu_has_f16c, detected!("f16c")),
            feature!("BMI2", ggml_cpu_has_bmi2, detected!("bmi2")),
            feature!("AVX_VNNI", ggml_cpu_has_avx_vnni, detected!("avxvnni")),
            feature!("AVX512", ggml_cpu_has_avx512, detected!("avx512f")),
            feature!(
                "AVX512_VBMI",
                ggml_cpu_has_avx512_vbmi,
                detected!("avx512vbmi")
            ),
            feature!(
                "AVX512_VNNI",
                ggml_cpu_has_avx512_vnni,
                detected!("avx512vnni")
            ),
            feature!(
                "AVX512_BF16",
                ggml_cpu_has_avx512_bf16,
                detected!("avx512bf16")
            ),
        ]
    }
    #[cfg(target_arch = "aarch64")]
    {
        use std::arch::is_aarch64_feature_detected as detected;
        vec![
            feature!("NEON", ggml_cpu_has_neon, detected!("neon")),
            feature!("FP16_VA", ggml_cpu_has_fp16_va, detected!("fp16")),
            feature!("DOTPROD", ggml_cpu_has_dotprod, detected!("dotprod")),
            feature!("MATMUL_INT8", ggml_cpu_has_matmul_int8, detected!("i8mm")),
            feature!("SVE", ggml_cpu_has_sve, detected!("sve")),
        ]
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        Vec::new()
    }
}

/// The devices that llama.cpp found, the CPU included.
#[must_use]
pub fn devices() -> Vec<Device> {
    start();
    // SAFETY: the backends are loaded (`start`); the registry does not change afterwards.
    let count = unsafe { sys::ggml_backend_dev_count() };
    (0..count).map(device).collect()
}

/// The name of the hardware on which a model runs by default: the first GPU, or else the CPU.
#[must_use]
pub fn computing_device() -> String {
    let devices = devices();
    let gpu = devices.iter().find(|device| device.is_gpu);
    let device = gpu.or(devices.first());
    device.map_or(String::new(), |device| device.description.clone())
}

fn device(index: usize) -> Device {
    let (mut memory_free, mut memory_total) = (0, 0);
    // SAFETY: `index` is below the count of devices, and devices are never removed; names live as long as they.
    unsafe {
        let raw = sys::ggml_backend_dev_get(index);
        sys::ggml_backend_dev_memory(raw, &raw mut memory_free, &raw mut memory_total);
        let kind = sys::ggml_backend_dev_type(raw);
        Device {
            name: text(sys::ggml_backend_dev_name(raw)),
            description: text(sys::ggml_backend_dev_description(raw)),
            is_gpu: kind == sys::GGML_BACKEND_DEVICE_TYPE_GPU
                || kind == sys::GGML_BACKEND_DEVICE_TYPE_IGPU,
            // ggml says that all of a CPU's memory is free.
            memory_free: (kind == sys::GGML_BACKEND_DEVICE_TYPE_CPU)
                .then(FreeMemory::now)
                .flatten()
                .map_or(memory_free as u64, |free| free.ram),
            memory_total: memory_total as u64,
        }
    }
}

/// The bytes of host memory that new buffers can have, swap included. Elsewhere than on Linux this is ggml's figure: the
/// free memory on Windows, and all memory on other systems.
#[must_use]
pub fn free_memory() -> Option<u64> {
    let now = FreeMemory::now().map(|free| free.ram + free.swap);
    now.or_else(|| {
        let devices = devices();
        let cpu = devices.iter().find(|device| device.name == "CPU")?;
        Some(cpu.memory_free)
    })
}

/// A copy of a C string.
///
/// # Safety
///
/// `text` must be a NUL-terminated string.
unsafe fn text(text: *const c_char) -> String {
    // SAFETY: this function's contract.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_a_device_and_its_built_features_are_its_own() {
        assert!(
            devices()
                .iter()
                .any(|device| !device.is_gpu && device.memory_total > 0)
        );
        let cpu = devices().into_iter().find(|it| it.name == "CPU").unwrap();
        assert!(
            cpu.memory_free > 0 && cpu.memory_free < cpu.memory_total,
            "{cpu:?}"
        );
        for feature in cpu_features() {
            assert!(
                feature.cpu || !feature.built,
                "{} would crash here",
                feature.name
            );
        }
    }
}
