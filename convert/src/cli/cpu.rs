//! The CPU that a program needs: `target-cpu=native` lets the compiler use whatever the CPU of the building machine has.

use crate::say;

/// Whether this CPU has all instructions that the program was compiled to use. If not, a line on stderr names what is
/// missing. A program asks this first, since its other code may end in an illegal instruction.
#[inline(never)]
#[must_use]
pub fn is_sufficient() -> bool {
    let missing = missing_instructions();
    if let Some(name) = missing {
        say!(
            "error: this program was built for a CPU with {name}, and this CPU does not have it; build it on this machine"
        );
    }
    missing.is_none()
}

/// An instruction set that the program was compiled to use and that this CPU does not have, if there is one. This computes
/// with plain integers, which every CPU has.
#[inline(never)]
// Newer compilers than the oldest supported one take the instruction for safe.
#[allow(unsafe_code, unused_unsafe)]
fn missing_instructions() -> Option<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::__cpuid_count;
        // SAFETY: every x86-64 CPU has the instruction, and this leaf.
        let highest = unsafe { __cpuid_count(0, 0) }.eax;
        // SAFETY: as above.
        let basic = unsafe { __cpuid_count(1, 0) }.ecx;
        let extended = if highest >= 7 {
            // SAFETY: the CPU has this leaf.
            unsafe { __cpuid_count(7, 0) }.ebx
        } else {
            0
        };
        macro_rules! require {
            ($($feature:literal: bit $bit:literal of $register:ident),*) => {
                $(if cfg!(target_feature = $feature) && $register >> $bit & 1 == 0 {
                    return Some($feature);
                })*
            };
        }
        require!(
            "sse4.2": bit 20 of basic, "popcnt": bit 23 of basic, "avx": bit 28 of basic,
            "f16c": bit 29 of basic, "fma": bit 12 of basic, "bmi1": bit 3 of extended,
            "avx2": bit 5 of extended, "bmi2": bit 8 of extended, "avx512f": bit 16 of extended,
            "avx512dq": bit 17 of extended, "avx512bw": bit 30 of extended,
            "avx512vl": bit 31 of extended
        );
    }
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_cpu_that_built_the_program_runs_it() {
        assert_eq!(super::missing_instructions(), None);
    }
}
