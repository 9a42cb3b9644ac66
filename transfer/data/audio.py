"""Make images of recordings: log-mel spectrograms, time from left to right, low pitches at the bottom.

The rules, in this order:

1. Channels are averaged, and the mean of all samples is taken off them.
2. Silence at both ends is cut off: frames of 20 ms whose power is more than 40 dB below that of the loudest. What is
   left is cut to `seconds`, or padded with zeros, at both ends alike, so that a word stands in the middle wherever in
   the recording it was said.
3. Resampled to `rate`; frames of `window` seconds every `hop` seconds, under a Hann window; their power spectra, summed
   in `mels` triangular bands that are spaced evenly from 0 Hz to half of `rate` on the mel scale
   mel(f) = 2595 log10(1 + f / 700) (O'Shaughnessy 1987, as in HTK: Young et al. 2006, The HTK Book, section 5.4).
4. Decibels below the loudest point: that point becomes 255, what is `decibels` or more below it 0.
   A recording with nothing in it is 0 everywhere.
"""

from __future__ import annotations

import io
from functools import cache
from math import gcd

import numpy as np
import soundfile  # type: ignore[import-untyped]
from scipy.fft import next_fast_len
from scipy.signal import ShortTimeFFT, resample_poly
from scipy.signal.windows import hann
from scipy.sparse import csr_array

from transfer.console import UserError
from transfer.data.preprocessing import Sound

LARGEST = 60_000_000  # samples of all channels: ten minutes in stereo at 48 kHz
MP3_IN_WAV = b"\x55\0"  # format of a WAV file, in its bytes 20 and 21
RATES = range(1000, 192_001)  # samples per second
FRAME = 0.02  # seconds, where silence is told from sound
QUIET = 1e-4  # of the power of the loudest frame, -40 dB
NOTHING = 1e-11  # power of a band at -140 dB, below what 24 bits can hold: silence, though nothing is louder


def read_sound(content: bytes, sound: Sound, name: str) -> np.ndarray:
    """Decode a recording and make its spectrogram.

    Args:
        content: of a file of any format that libsndfile reads, among them WAV, FLAC, Ogg Vorbis and MP3.
        sound: says how.
        name: what the file is called in errors.

    Returns:
        (mels, frames) uint8.

    Raises:
        UserError: if it is no recording, damaged, empty or too long.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate = file.samplerate
            if not 0 < file.frames * file.channels <= LARGEST or rate not in RATES:
                raise UserError(
                    f"{name} has {file.frames:,} samples in {file.channels} channels at {rate} Hz, but may have 1 to "
                    f"{LARGEST:,} at {RATES[0]} to {RATES[-1]} Hz: cut it into shorter recordings"
                )
            signal = file.read(dtype="float32", always_2d=True).mean(axis=1, dtype=np.float64)
    except soundfile.LibsndfileError as error:
        if content[8:16] == b"WAVEfmt " and content[20:22] == MP3_IN_WAV:  # of which libsndfile reads the longer ones
            raise UserError(f"{name} is a WAV with an MP3 inside that cannot be read: save it as plain WAV") from None
        raise UserError(
            f"{name} is no image or recording that can be read ({error.error_string}): save it as PNG, JPEG or WAV, "
            "or take it out"
        ) from None
    if not len(signal) or not np.isfinite(signal).all():
        raise UserError(f"{name} holds no samples, or some that are not numbers: replace it, or take it out")
    signal = _centred(_trimmed(signal - signal.mean(), rate), round(sound.seconds * rate))
    common = gcd(rate, sound.rate)
    signal = resample_poly(signal, sound.rate // common, rate // common)
    return spectrogram(signal, sound)


def spectrogram(signal: np.ndarray, sound: Sound) -> np.ndarray:
    """The log-mel spectrogram of a signal; frames and bands of rule 3, and rule 4.

    Args:
        signal: samples at `sound.rate`, (n,) float.
        sound: says how.

    Returns:
        (mels, frames) uint8, the highest band first.
    """
    window, hop = round(sound.window * sound.rate), max(1, round(sound.hop * sound.rate))
    bands, length = _mel_bands(sound)
    transform = ShortTimeFFT(hann(window, sym=False), hop, sound.rate, mfft=length)
    power = bands @ transform.spectrogram(_centred(signal, max(window, len(signal))))
    floor = 10 ** (-sound.decibels / 10)
    decibels = 10 * np.log10(np.maximum(power / max(power.max(), NOTHING), floor))
    return np.rint(255 * (1 + decibels / sound.decibels)).astype(np.uint8)[::-1]


def _trimmed(signal: np.ndarray, rate: int) -> np.ndarray:
    """Without the silence at both ends."""
    frame = round(FRAME * rate)
    power = np.add.reduceat(signal**2, np.arange(0, len(signal), frame))
    loud = np.flatnonzero(power >= QUIET * power.max())
    return signal[loud[0] * frame : (loud[-1] + 1) * frame]


def _centred(signal: np.ndarray, length: int) -> np.ndarray:
    """Cut or padded with zeros to a length, at both ends alike."""
    if len(signal) >= length:
        start = (len(signal) - length) // 2
        return signal[start : start + length]
    before = (length - len(signal)) // 2
    return np.pad(signal, (before, length - len(signal) - before))


@cache
def _mel_bands(sound: Sound) -> tuple[csr_array, int]:
    """Weights of the bands, (mels, length / 2 + 1), and the length of the Fourier transform.

    It is long enough for the narrowest band to have a frequency near its centre, so that no band is empty.
    """
    edges = np.linspace(0, _mel(sound.rate / 2), sound.mels + 2)
    narrowest = 700 * (10 ** (edges[1] / 2595) - 1)  # in Hz, up to the centre of the lowest band
    length = next_fast_len(round(max(sound.window, 1 / narrowest) * sound.rate) + 1, real=True)
    pitches = _mel(np.fft.rfftfreq(length, 1 / sound.rate))
    weights = np.maximum(0, 1 - np.abs(pitches - edges[1:-1, None]) / edges[1])
    return csr_array(weights), length  # its product is one loop, whose sums do not depend on the number of threads


def _mel(hertz: np.ndarray | float) -> np.ndarray | float:
    """Pitch on the mel scale."""
    return 2595 * np.log10(1 + hertz / 700)
