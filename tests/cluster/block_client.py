"""A client of a node, through libagentmem's C ABI: blocks put, got, compared,
looked for; sequences of blocks.
"""

import contextlib
import ctypes
import hashlib

OK, DEADLINE_EXCEEDED, NOT_FOUND, UNAVAILABLE = 0, 4, 5, 14
RESOURCE_EXHAUSTED = 8
CACHE, STATE = 1, 2
VISIBLE, REPLICATED, DURABLE = 1, 2, 3
TIERS = {0: "none", 1: "hbm", 2: "dram", 3: "pool", 4: "store"}


class _Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int32), ("message", ctypes.c_char * 508)]


class _Key(ctypes.Structure):
    _fields_ = [("group", ctypes.c_uint32), ("name", ctypes.c_uint32 * 3)]


class _Options(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("reserved", ctypes.c_uint32),
                ("socket_path", ctypes.c_char_p), ("tenant", ctypes.c_char_p),
                ("name", ctypes.c_char_p), ("timeout_ns", ctypes.c_uint64)]


class _Span(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("length", ctypes.c_uint64),
                ("opaque", ctypes.c_uint64 * 3), ("tier", ctypes.c_uint8),
                ("reserved", ctypes.c_uint8 * 7)]


class _SequenceOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("block_tokens", ctypes.c_uint32),
                ("model", ctypes.c_char_p), ("layout_digest", ctypes.c_void_p),
                ("layout_digest_bytes", ctypes.c_size_t)]


class Refused(Exception):
    """What libagentmem answered."""

    def __init__(self, error):
        super().__init__(f"{error.code}: {error.message.decode()}")
        self.code = error.code


def content(number, length):
    """The bytes of block `number`: no two alike, none all zeros."""
    seed = hashlib.sha256(b"block %d" % number).digest()
    return (seed * (length // len(seed) + 1))[:length]


class BlockClient:
    def __init__(self, library, socket_path, timeout_s=5):
        self._library = ctypes.CDLL(str(library))
        for name in ("connect", "put", "put_wait", "get", "contains",
                     "sequence_open", "sequence_append", "sequence_match"):
            getattr(self._library, f"agentmem_{name}").restype = ctypes.c_int32
        self._library.agentmem_close.argtypes = [ctypes.c_void_p]
        self._library.agentmem_release.restype = None
        self._library.agentmem_sequence_close.argtypes = [ctypes.c_void_p]
        self._library.agentmem_sequence_close.restype = None
        self._timeout_ns = ctypes.c_uint64(int(timeout_s * 1e9))
        self._client = ctypes.c_void_p()
        options = _Options(ctypes.sizeof(_Options), 0,
                           str(socket_path).encode(), None,
                           b"cluster_test", self._timeout_ns)
        self._call("connect", ctypes.byref(options),
                   ctypes.byref(self._client))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._library.agentmem_close(self._client)

    def put(self, number, data, ack, block_class=STATE):
        put = ctypes.c_uint64()
        self._call("put", self._client, _key(number), data,
                   ctypes.c_uint64(len(data)), ctypes.c_uint8(block_class),
                   ctypes.c_uint8(ack), self._timeout_ns, ctypes.byref(put))
        self._call("put_wait", self._client, put, self._timeout_ns)

    def get(self, number):
        """(bytes, tier where it was); Refused(NOT_FOUND): it is nowhere."""
        span = _Span()
        try:
            self._call("get", self._client, _key(number), ctypes.c_size_t(1),
                       self._timeout_ns, ctypes.byref(span))
            return ctypes.string_at(span.data, span.length), TIERS[span.tier]
        finally:
            self._library.agentmem_release(
                self._client, ctypes.byref(span), ctypes.c_size_t(1))

    def contains(self, numbers):
        """The tier of each."""
        keys = (_Key * len(numbers))(*map(_key_of, numbers))
        tiers = (ctypes.c_uint8 * len(numbers))()
        self._call("contains", self._client, keys,
                   ctypes.c_size_t(len(numbers)), tiers)
        return [TIERS[tier] for tier in tiers]

    def append(self, tokens, block_tokens, data, ack, block_class=CACHE):
        """Puts `data` under each whole block of tokens, in order."""
        words = (ctypes.c_uint32 * len(tokens))(*tokens)
        with self._sequence(block_tokens) as sequence:
            for _ in range(len(tokens) // block_tokens):
                put = ctypes.c_uint64()
                self._call("sequence_append", sequence, words,
                           ctypes.c_size_t(len(tokens)), data,
                           ctypes.c_uint64(len(data)),
                           ctypes.c_uint8(block_class), ctypes.c_uint8(ack),
                           self._timeout_ns, ctypes.byref(put))
                self._call("put_wait", self._client, put, self._timeout_ns)

    def match(self, tokens, block_tokens):
        """How many blocks of them are stored."""
        words = (ctypes.c_uint32 * len(tokens))(*tokens)
        keys = (_Key * (len(tokens) // block_tokens))()
        matched = ctypes.c_size_t()
        with self._sequence(block_tokens) as sequence:
            self._call("sequence_match", sequence, words,
                       ctypes.c_size_t(len(tokens)), keys,
                       ctypes.c_size_t(len(keys)), ctypes.byref(matched))
        return matched.value

    @contextlib.contextmanager
    def _sequence(self, block_tokens):
        options = _SequenceOptions(ctypes.sizeof(_SequenceOptions),
                                   block_tokens, b"cluster_test", None, 0)
        sequence = ctypes.c_void_p()
        self._call("sequence_open", self._client, ctypes.byref(options),
                   ctypes.byref(sequence))
        try:
            yield sequence
        finally:
            self._library.agentmem_sequence_close(sequence)

    def _call(self, name, *arguments):
        error = _Error()
        code = getattr(self._library, f"agentmem_{name}")(
            *arguments, ctypes.byref(error))
        if code != OK:
            raise Refused(error)


def _key_of(number):
    return _Key(number, (ctypes.c_uint32 * 3)(1, 2, number))


def _key(number):
    return ctypes.byref(_key_of(number))
