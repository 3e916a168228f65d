//! Products in bf16 by AMX, the matrix unit of Intel's server CPUs, which multiplies about ten times as fast as their
//! vector units.
//!
//! A tile register holds 16 rows of 64 bytes. `tdpbf16ps` multiplies a tile of rows, `[16 rows][32 inputs]`, by a tile
//! of weights, `[16 pairs of inputs][16 outputs][2]`, which is the order of a panel, and adds the products to a tile of
//! `[16 rows][16 outputs]` sums.

#![allow(unsafe_code)]

use std::arch::asm;
use std::sync::OnceLock;

use half::bf16;

use super::WIDTH;

/// Rows of a tile.
const ROWS: usize = 16;
/// Inputs of a tile.
const DEEP: usize = 32;
/// Values of a panel that are multiplied by the inputs of one tile.
const STEP: usize = DEEP * WIDTH;
/// Bytes from one row of a panel's pairs, or of sums, to the next.
const STRIDE: usize = 4 * WIDTH;

/// Whether this CPU has AMX and the system lets this process use it.
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| is_in_cpu() && is_permitted())
}

fn is_in_cpu() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    // SAFETY: every x86-64 has the instruction. (From Rust 1.94 on the function is safe.)
    #[allow(unused_unsafe)]
    let features = unsafe { std::arch::x86_64::__cpuid_count(7, 0) }.edx;
    features & AMX_BF16 != 0 && features & AMX_TILE != 0
}

/// Asks Linux for permission to use tiles, whose 8 KB the system has to save for each thread, and says whether it was
/// given.
fn is_permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: the system call changes only the permissions of this process.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// `tile += x panelᵀ` for rows of `x` that lie `width` apart, over the pairs of inputs in `panel`. The sums of a row do
/// not depend on the other rows.
///
/// # Panics
/// `panel` or `tile` is not a whole number of rows, or `x` is too short.
///
/// # Safety
/// [`available`].
pub unsafe fn accumulate(panel: &[bf16], x: &[bf16], width: usize, tile: &mut [f32]) {
    let is_whole = tile.len().is_multiple_of(WIDTH) && panel.len().is_multiple_of(2 * WIDTH);
    assert!(
        is_whole,
        "the panel or the tile is not a whole number of rows"
    );
    let (n_rows, n_inputs) = (tile.len() / WIDTH, panel.len() / WIDTH);
    assert!(n_rows == 0 || x.len() >= (n_rows - 1) * width + n_inputs);
    let (whole, rest) = panel.split_at(n_inputs / DEEP * STEP);
    let last_of_panel = (!rest.is_empty()).then(|| {
        let mut padded = [bf16::ZERO; STEP];
        padded[..rest.len()].copy_from_slice(rest);
        padded
    });
    let first_of_rest = whole.len() / WIDTH;
    let mut before = Config::default();
    // SAFETY: the caller's promise; the instruction writes the 64 bytes of a configuration.
    unsafe { asm!("sttilecfg [{}]", in(reg) &raw mut before, options(nostack, preserves_flags)) };
    let mut shape = [0; 2];
    for (block, tile) in tile.chunks_mut(2 * ROWS * WIDTH).enumerate() {
        let x = &x[block * 2 * ROWS * width..];
        let n_rows = tile.len() / WIDTH;
        let [upper, lower] = [n_rows.min(ROWS), n_rows.saturating_sub(ROWS)];
        // A block without lower rows can leave the lower tiles as they are.
        if shape[0] != upper || lower > 0 && shape[1] != lower {
            shape = [upper, lower.max(1)];
            // SAFETY: the caller's promise.
            unsafe { Config::new(shape).load() };
        }
        let product = |x: &[bf16], width: usize, panel: &[bf16], tile: &mut [f32]| {
            // SAFETY: the caller's promise; the tiles are configured for these rows, all of which lie in the slices.
            unsafe {
                if lower > 0 {
                    two_tiles(x, width, panel, tile);
                } else {
                    one_tile(x, width, panel, tile);
                }
            }
        };
        if !whole.is_empty() {
            product(x, width, whole, tile);
        }
        if let Some(panel) = &last_of_panel {
            let mut last_of_x = [bf16::ZERO; 2 * ROWS * DEEP];
            for (row, last) in last_of_x.chunks_exact_mut(DEEP).take(n_rows).enumerate() {
                let inputs = &x[row * width + first_of_rest..][..rest.len() / WIDTH];
                last[..inputs.len()].copy_from_slice(inputs);
            }
            product(&last_of_x, DEEP, panel, tile);
        }
    }
    // SAFETY: the caller's promise. Other code of this thread that computes with tiles, such as ggml, gets back the
    // configuration that it had loaded.
    unsafe { before.load() };
}

/// The configuration of the tile registers, in the layout of `ldtilecfg`. The default releases them.
#[derive(Default)]
#[repr(C)]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    /// Registers 0 and 1 for the sums of the `upper` rows, 2 and 3 for those of the `lower` ones, 4 and 5 for the rows,
    /// 6 and 7 for the panel. Both numbers of rows are 1 to [`ROWS`].
    fn new([upper, lower]: [usize; 2]) -> Self {
        let [upper, lower, all] = [upper, lower, ROWS].map(|n| n as u8);
        let mut config = Self {
            palette: 1,
            ..Self::default()
        };
        config.row_bytes[..8].fill(64);
        config.rows[..8].copy_from_slice(&[upper, upper, lower, lower, upper, lower, all, all]);
        config
    }

    /// # Safety
    /// [`available`].
    unsafe fn load(&self) {
        // SAFETY: the caller's promise; the instruction reads the 64 bytes of a valid configuration.
        unsafe {
            asm!(
                "ldtilecfg [{}]",
                in(reg) &raw const *self,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(readonly, nostack, preserves_flags),
            );
        }
    }
}

/// `tile += x panelᵀ` for at most [`ROWS`] rows.
///
/// # Safety
/// [`available`], and the tiles are configured for the rows of `tile`. `panel` is a whole number of [`STEP`]s, at least
/// one. `x` has as many rows as `tile`, `width` apart, each as long as the panel has inputs.
unsafe fn one_tile(x: &[bf16], width: usize, panel: &[bf16], tile: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "tileloadd tmm0, [{sums} + {stride}]",
            "tileloadd tmm1, [{sums} + {stride} + 64]",
            "2:",
            "tileloadd tmm4, [{x} + {x_stride}]",
            "tileloadd tmm6, [{panel} + {stride}]",
            "tileloadd tmm7, [{panel} + {stride} + 64]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {x}, 64",
            "add {panel}, 2048",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {stride}], tmm0",
            "tilestored [{sums} + {stride} + 64], tmm1",
            sums = in(reg) tile.as_mut_ptr(),
            stride = in(reg) STRIDE,
            x = inout(reg) x.as_ptr() => _,
            x_stride = in(reg) 2 * width,
            panel = inout(reg) panel.as_ptr() => _,
            steps = inout(reg) panel.len() / STEP => _,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// `tile += x panelᵀ` for more than [`ROWS`] rows, up to twice as many.
///
/// # Safety
/// The conditions of [`one_tile`].
unsafe fn two_tiles(x: &[bf16], width: usize, panel: &[bf16], tile: &mut [f32]) {
    let sums = tile.as_mut_ptr();
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "tileloadd tmm0, [{sums} + {stride}]",
            "tileloadd tmm1, [{sums} + {stride} + 64]",
            "tileloadd tmm2, [{lower} + {stride}]",
            "tileloadd tmm3, [{lower} + {stride} + 64]",
            "2:",
            "tileloadd tmm4, [{x} + {x_stride}]",
            "tileloadd tmm5, [{x_lower} + {x_stride}]",
            "tileloadd tmm6, [{panel} + {stride}]",
            "tileloadd tmm7, [{panel} + {stride} + 64]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {x}, 64",
            "add {x_lower}, 64",
            "add {panel}, 2048",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {stride}], tmm0",
            "tilestored [{sums} + {stride} + 64], tmm1",
            "tilestored [{lower} + {stride}], tmm2",
            "tilestored [{lower} + {stride} + 64], tmm3",
            sums = in(reg) sums,
            lower = in(reg) sums.add(ROWS * WIDTH),
            stride = in(reg) STRIDE,
            x = inout(reg) x.as_ptr() => _,
            x_lower = inout(reg) x[ROWS * width..].as_ptr() => _,
            x_stride = in(reg) 2 * width,
            panel = inout(reg) panel.as_ptr() => _,
            steps = inout(reg) panel.len() / STEP => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
