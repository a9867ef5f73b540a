//! The fifteen cores in C: sphlib, in the crate x16rs-sys. Shared with the test pool of `mining`.

#![expect(unsafe_code, reason = "the oracle is C")]

use core::ffi::c_void;

use ghostrider::cores::{Core, Digest};
use x16rs_sys as _;

/// At least as large and as aligned as the largest context of sphlib.
#[repr(C, align(64))]
struct Context([u8; 4096]);

/// Declares the three functions of a hash and gives one that calls them.
macro_rules! oracle {
    ($init:ident, $update:ident, $close:ident) => {{
        unsafe extern "C" {
            fn $init(context: *mut c_void);
            fn $update(context: *mut c_void, data: *const c_void, length: usize);
            fn $close(context: *mut c_void, digest: *mut c_void);
        }
        |message: &[u8]| -> Digest {
            let mut context = Context([0; 4096]);
            let mut digest = [0; 64];
            let pointer: *mut c_void = (&raw mut context).cast();
            // SAFETY: the context is large enough, the message is as long as it says, and a digest
            // has 64 bytes.
            unsafe {
                $init(pointer);
                $update(pointer, message.as_ptr().cast(), message.len());
                $close(pointer, digest.as_mut_ptr().cast());
            }
            digest
        }
    }};
}

/// The function that computes this core.
pub fn of(core: Core) -> fn(&[u8]) -> Digest {
    match core {
        Core::Blake => oracle!(sph_blake512_init, sph_blake512, sph_blake512_close),
        Core::Bmw => oracle!(sph_bmw512_init, sph_bmw512, sph_bmw512_close),
        Core::Groestl => oracle!(sph_groestl512_init, sph_groestl512, sph_groestl512_close),
        Core::Jh => oracle!(sph_jh512_init, sph_jh512, sph_jh512_close),
        Core::Keccak => oracle!(sph_keccak512_init, sph_keccak512, sph_keccak512_close),
        Core::Skein => oracle!(sph_skein512_init, sph_skein512, sph_skein512_close),
        Core::Luffa => oracle!(sph_luffa512_init, sph_luffa512, sph_luffa512_close),
        Core::CubeHash => oracle!(sph_cubehash512_init, sph_cubehash512, sph_cubehash512_close),
        Core::Shavite => oracle!(sph_shavite512_init, sph_shavite512, sph_shavite512_close),
        Core::Simd => oracle!(sph_simd512_init, sph_simd512, sph_simd512_close),
        Core::Echo => oracle!(sph_echo512_init, sph_echo512, sph_echo512_close),
        Core::Hamsi => oracle!(sph_hamsi512_init, sph_hamsi512, sph_hamsi512_close),
        Core::Fugue => oracle!(sph_fugue512_init, sph_fugue512, sph_fugue512_close),
        Core::Shabal => oracle!(sph_shabal512_init, sph_shabal512, sph_shabal512_close),
        Core::Whirlpool => oracle!(sph_whirlpool_init, sph_whirlpool, sph_whirlpool_close),
    }
}
