//! Masking and unmasking, which are the same (RFC 6455, section 5.3).

/// Masks or unmasks `bytes` in place, then turns `key` so that it fits the bytes that follow.
pub(crate) fn apply(key: &mut [u8; 4], bytes: &mut [u8]) {
    // What a server sends has no mask.
    if *key == [0; 4] {
        return;
    }
    let [a, b, c, d] = *key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    // A loop over words of a fixed size is one that the compiler makes wider still.
    let (words, tail) = bytes.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip([a, b, c, d].into_iter().cycle()) {
        *byte ^= key;
    }
    key.rotate_left(bytes.len() % 4);
}

#[cfg(test)]
mod tests {
    use super::apply;

    #[test]
    fn every_length_and_every_cut_masks_byte_i_with_key_i_modulo_4() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        for len in 0..100_usize {
            let plain: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let masked: Vec<u8> = plain.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            for cut in 0..=len {
                let (mut turning, mut bytes) = (key, plain.clone());
                let (left, right) = bytes.split_at_mut(cut);
                apply(&mut turning, left);
                apply(&mut turning, right);
                assert_eq!(bytes, masked, "{len} bytes, cut at {cut}");
            }
        }
    }
}
