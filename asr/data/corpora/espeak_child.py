"""Speak with espeak-ng in a process of its own: reads one JSON request on stdin, writes 16-bit samples to stdout.

Run as a script without site-packages, so it may use the standard library alone. One process serves one voice: espeak-ng
keeps state from one sentence to the next, and only a fresh process gives the same samples for the same request.
"""

import ctypes
import json
import os
import struct
import sys

SAMPLE_RATE = 22050
SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: no sound device, samples come to the callback
DO_NOT_EXIT = 0x8000
UTF8 = 1
RATE, PITCH, RANGE = 1, 3, 4  # espeak_PARAMETER


def main() -> None:
    request = json.load(sys.stdin)
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # espeak-ng prints its complaints; they must not mix with the samples
    library = ctypes.CDLL(request["library"])
    os.chdir(request["data_parent"])  # a relative name: espeak-ng cuts long paths without a word
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, request["data_name"].encode(), DO_NOT_EXIT)
    if rate != SAMPLE_RATE:
        sys.exit(f"espeak_Initialize answered {rate}, expected {SAMPLE_RATE}")
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    if library.espeak_SetVoiceByName(request["voice"].encode()):
        sys.exit(f"no voice {request['voice']}")
    chunks: list[bytes] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    def receive(samples: int | None, count: int, events: int | None) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    library.espeak_SetSynthCallback(receive)
    for phrase in request["phrases"]:
        chunks.clear()
        library.espeak_SetParameter(RATE, phrase["rate"], 0)
        library.espeak_SetParameter(PITCH, phrase["pitch"], 0)
        library.espeak_SetParameter(RANGE, phrase["range"], 0)
        text = phrase["text"].encode("utf-8")
        if library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 1, 0, UTF8, None, None):
            sys.exit(f"espeak_Synth failed on {phrase['text']!r}")
        samples = b"".join(chunks)
        sink.write(struct.pack("<I", len(samples)) + samples)
    sink.close()


if __name__ == "__main__":
    main()
