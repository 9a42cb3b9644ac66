"""Make images of recordings: log-mel spectrograms, time from left to right, low pitches at the bottom.

The rules, in this order:

1. A WAV file of integer or float samples; channels are averaged, and the mean of all samples is taken off them.
2. Silence at both ends is cut off: frames of 20 ms whose power is more than 40 dB below that of the loudest. What is
   left is cut to `seconds`, or padded with zeros, at both ends alike, so that a word stands in the middle wherever in
   the recording it was said.
3. Resampled to `rate`; frames of `window` seconds every `hop` seconds, under a Hann window; their power spectra, summed
   in `mels` triangular bands that are spaced evenly from 0 Hz to half of `rate` on the mel scale
   mel(f) = 2595 log10(1 + f / 700) (O'Shaughnessy 1987, as in HTK: Young et al. 2006, The HTK Book, section 5.4).
4. Decibels below the loudest point: that point becomes 255, what is `decibels` or more below it 0. A recording in which
   there is nothing is 0 everywhere.
5. Stretched to the height and width that are wanted, the one channel repeated, and the polarity applied, as
   `transfer.data.pixels` does it.
"""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from functools import cache
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from transfer.console import UserError, one_line
from transfer.data.opening import called, open_file
from transfer.data.pixels import convert
from transfer.data.preprocessing import Preprocessing, Sound

SUFFIX = ".wav"
LARGEST = 256 << 20  # bytes of a file
LONGEST = 600  # seconds of a recording
RATES = (1000, 192_000)  # samples per second of a recording, lowest and highest
FRAME = 0.02  # seconds, where silence is told from sound
QUIET = 40.0  # decibels below the loudest frame
NOTHING = 1e-7  # of full scale, -140 dB: below what 24 bits can hold
STREAMED = 0x7FFF_F000  # bytes of samples that a program states, or more, which writes into a pipe and cannot know them
BLOCK = 1 << 22  # numbers of the spectra that are in memory at once


def is_wav(head: bytes) -> bool:
    """Whether a file that begins with these 12 bytes is a WAV file."""
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE"


def read_sound(source: Path | bytes, preprocessing: Preprocessing, name: str = "") -> np.ndarray:
    """Read a WAV file and make its spectrogram.

    Args:
        source: path of the file, or its bytes; at most 256 MB and 10 minutes.
        preprocessing: that is wanted.
        name: what the file is called in errors; its path if this is empty.

    Returns:
        (height, width, channels) uint8.

    Raises:
        UserError: if the form knows of no recordings, or the file is missing, no WAV file, cut off, too large, too
            long, or of samples that are no numbers.
    """
    name = called(source, name)
    if preprocessing.sound is None:
        raise UserError(f"{name} is a recording, but no recording was learnt from: give images")
    with open_file(source, name) as stream:
        content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise UserError(f"{name} is larger than {LARGEST >> 20} MB: cut it into shorter recordings")
    samples, rate = _decode(content, name)
    if len(samples) > LONGEST * rate:
        raise UserError(f"{name} is longer than {LONGEST // 60} minutes: cut it into shorter recordings")
    picture = spectrogram(_heard(_mono(samples, name), rate, preprocessing.sound), preprocessing.sound)
    return convert(picture[None], replace(preprocessing, fit="stretch"))[0]


def spectrogram(signal: np.ndarray, sound: Sound) -> np.ndarray:
    """The log-mel spectrogram of a signal; rules 3 (but for the resampling) and 4.

    Args:
        signal: samples at `sound.rate`, (n,) float; of any scale.
        sound: says how.

    Returns:
        (mels, frames) uint8, the highest band first.
    """
    power = _mel_power(signal, sound)
    loudest = power.max()
    if loudest == 0:
        return np.zeros(power.shape, np.uint8)
    floor = 10 ** (-sound.decibels / 10)
    level = 1 + 10 * np.log10(np.maximum(power / loudest, floor)) / sound.decibels  # 0 to 1
    return np.rint(255 * np.maximum(level, 0)).astype(np.uint8)[::-1]


def mel(hertz: np.ndarray | float) -> Any:
    """Pitch on the mel scale."""
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def _decode(content: bytes, name: str) -> tuple[np.ndarray, int]:
    """Samples, (n,) or (n, channels), and their rate.

    scipy gets the format and the samples alone: it warns of every other chunk, and of a file that is cut off.
    """
    from scipy.io import wavfile

    chunks = _chunks(content, name)
    if len(chunks.get(b"fmt ", b"")) < 16:
        raise UserError(f"{name} is damaged (it does not say its format): replace it, or take it out")
    channels, rate, _, block, bits = struct.unpack_from("<HIIHH", chunks[b"fmt "], 2)
    if not (channels and bits and block and block % channels == 0 and RATES[0] <= rate <= RATES[1]):
        raise UserError(
            f"{name} cannot be used (it says {channels} channels, {block} bytes for a sample of all of them, {rate} "
            "samples a second): save it anew as 16-bit PCM"
        )
    data = chunks.get(b"data", b"")
    data = data[: len(data) // block * block]
    if not data:
        raise UserError(f"{name} holds no samples: replace it, or take it out")
    body = b"WAVE" + b"".join(
        tag + struct.pack("<I", len(chunk)) + chunk + bytes(len(chunk) % 2)
        for tag, chunk in ((b"fmt ", chunks[b"fmt "]), (b"data", data))
    )
    try:
        rate, samples = wavfile.read(io.BytesIO(b"RIFF" + struct.pack("<I", len(body)) + body))
    except Exception as error:  # of many kinds, on a format that makes no sense
        raise UserError(f"{name} cannot be used ({one_line(error)}): save it anew as 16-bit PCM") from None
    return samples, rate


def _chunks(content: bytes, name: str) -> dict[bytes, bytes]:
    """The format and the samples of a WAV file (Microsoft & IBM 1991, Multimedia Programming Interface, chapter 2)."""
    if not is_wav(content[:12]):
        raise UserError(f"{name} is no WAV file: save the recording as WAV, 16-bit PCM")
    found: dict[bytes, bytes] = {}
    place = 12
    while b"data" not in found and place + 8 <= len(content):
        tag, size = struct.unpack_from("<4sI", content, place)
        place += 8
        left = len(content) - place
        if tag == b"data" and size >= STREAMED:
            size = left
        if size > left:
            raise UserError(f"{name} is cut off ({left:,} of {size:,} bytes): replace it, or take it out")
        if tag in (b"fmt ", b"data"):
            found[tag] = content[place : place + size]
        place += size + size % 2
    return found


def _mono(samples: np.ndarray, name: str) -> np.ndarray:
    """The mean of the channels without its own mean, the loudest sample 1 or -1; (n,) float64."""
    scale = np.iinfo(samples.dtype).max + 1 if samples.dtype.kind in "iu" else 1
    channels = samples.reshape(len(samples), -1)
    step = max(1, BLOCK // channels.shape[1])  # as numbers of 8 bytes, all channels would take eight times the file
    parts = [channels[start : start + step] for start in range(0, len(channels), step)]
    loudest = 1.0
    for part in parts:
        if not np.isfinite(part).all():
            raise UserError(f"{name} holds samples that are no numbers: replace it, or take it out")
        loudest = max(loudest, np.abs(part.astype(np.float64)).max() / scale)  # so that no sum or square overflows
    # 8 bits are without a sign: their offset goes with the mean.
    signal = np.concatenate([(part.astype(np.float64) / scale / loudest).mean(axis=1) for part in parts])
    signal -= signal.mean()
    peak = max(signal.max(), -signal.min())
    if peak <= NOTHING:
        return np.zeros(len(signal))
    signal /= peak
    return signal


def _heard(signal: np.ndarray, rate: int, sound: Sound) -> np.ndarray:
    """Rule 2, and resampling; (seconds × rate,) float64."""
    from scipy.signal import resample_poly

    frame = max(1, round(FRAME * rate))
    power = np.add.reduceat(signal**2, np.arange(0, len(signal), frame))
    loud = np.flatnonzero(power > power.max() * 10 ** (-QUIET / 10))
    if len(loud):
        signal = signal[loud[0] * frame : (loud[-1] + 1) * frame]
    signal = _centred(signal, round(sound.seconds * rate))
    common = gcd(rate, sound.rate)
    resampled = resample_poly(signal, sound.rate // common, rate // common)
    return _centred(resampled, max(1, round(sound.seconds * sound.rate)))


def _centred(signal: np.ndarray, length: int) -> np.ndarray:
    """Cut or padded with zeros to a length, at both ends alike."""
    if len(signal) >= length:
        start = (len(signal) - length) // 2
        return signal[start : start + length]
    before = (length - len(signal)) // 2
    return np.pad(signal, (before, length - len(signal) - before))


def _mel_power(signal: np.ndarray, sound: Sound) -> np.ndarray:
    """(mels, frames) float64, the lowest band first."""
    window = max(1, round(sound.window * sound.rate))
    hop = max(1, round(sound.hop * sound.rate))
    signal = _centred(signal, max(window, len(signal)))
    frames = np.lib.stride_tricks.sliding_window_view(signal, window)[::hop]
    hann = np.sin(np.pi * (np.arange(window) + 0.5) / window) ** 2
    bands, length = _bands(sound)
    few = max(1, BLOCK // length)
    spectra = (np.fft.rfft(frames[start : start + few] * hann, length) for start in range(0, len(frames), few))
    return np.concatenate([bands @ (spectrum.real**2 + spectrum.imag**2).T for spectrum in spectra], axis=1)


@cache
def _bands(sound: Sound) -> tuple[Any, int]:
    """Weights of the bands, (mels, length / 2 + 1) and sparse, and the length of the Fourier transform.

    It is long enough for the narrowest band to have a frequency near its centre, so that no band is empty.
    """
    from scipy.sparse import csr_array

    edges = np.linspace(0, mel(sound.rate / 2), sound.mels + 2)
    narrowest = 700 * (10 ** (edges[1] / 2595) - 1)  # in Hz, up to the centre of the lowest band
    longest = max(sound.window * sound.rate, sound.rate / narrowest)
    length = 1 << int(np.ceil(np.log2(longest)))
    pitches = mel(np.fft.rfftfreq(length, 1 / sound.rate))
    weights = np.maximum(0, 1 - np.abs(pitches - edges[1:-1, None]) / edges[1])
    return csr_array(weights), length  # its product is one loop, whose sums do not depend on the number of threads
