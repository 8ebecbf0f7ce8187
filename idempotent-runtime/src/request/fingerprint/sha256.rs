//! SHA-256 over a buffer that is filled by others.
//!
//! The usual interface copies what it is given into a block of its own. Here the bytes are in a buffer already, so the
//! padding of FIPS 180-4 is written behind them and all blocks are compressed where they are.

use sha2::block_api::compress256;

use crate::buffer::Buffer;

const BLOCK: usize = 64;

pub(super) struct Sha256 {
    state: [u32; 8],
    /// The number of bytes in the state.
    hashed: u64,
}

impl Sha256 {
    pub(super) const START: Self = Self {
        state: [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19],
        hashed: 0,
    };

    /// Hashes the whole blocks of `buffer`, and leaves the rest in it.
    pub(super) fn update(&mut self, buffer: &mut Buffer) {
        let (blocks, _) = buffer.as_slice().as_chunks::<BLOCK>();
        compress256(&mut self.state, blocks);
        let hashed = blocks.len() * BLOCK;
        self.hashed += hashed as u64;
        buffer.remove_first(hashed);
    }

    /// Hashes all of `buffer` and leaves both as they were at the start.
    pub(super) fn finish(&mut self, buffer: &mut Buffer) -> [u8; 32] {
        let bits = (self.hashed + buffer.len() as u64) * 8;
        buffer.array([0x80]);
        let zeros = (2 * BLOCK - 8 - buffer.len() % BLOCK) % BLOCK;
        buffer.prefix([0; BLOCK], zeros);
        buffer.array(bits.to_be_bytes());
        compress256(&mut self.state, buffer.as_slice().as_chunks::<BLOCK>().0);
        buffer.truncate(0);

        let mut digest = [0; 32];
        for (to, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *to = word.to_be_bytes();
        }
        *self = Self::START;
        digest
    }
}
