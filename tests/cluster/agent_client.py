"""Agents on a node, through libagentmem's C ABI: one region each, by calls.
"""

import ctypes

from block_client import DURABLE, BlockClient

WRITE = 1
RETAIN_LAST = 1


class _AgentOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("mode", ctypes.c_uint32),
                ("create", ctypes.c_uint8), ("take_over", ctypes.c_uint8),
                ("reserved", ctypes.c_uint8 * 2),
                ("label_count", ctypes.c_uint32), ("labels", ctypes.c_void_p),
                ("fault_timeout_ns", ctypes.c_uint64)]


class _RegionOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("force_explicit", ctypes.c_uint8),
                ("reserved", ctypes.c_uint8 * 3), ("bytes", ctypes.c_uint64),
                ("version", ctypes.c_uint64)]


class _CommitOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("ack", ctypes.c_uint8),
                ("reserved", ctypes.c_uint8 * 3),
                ("label_count", ctypes.c_uint32), ("reserved1", ctypes.c_uint32),
                ("message", ctypes.c_char_p), ("labels", ctypes.c_void_p),
                ("trace_id", ctypes.c_uint8 * 16)]


class AgentClient(BlockClient):
    def __init__(self, library, socket_path, timeout_s=10):
        super().__init__(library, socket_path, timeout_s)
        for name in ("agent_open", "agent_set_retention", "agent_delete",
                     "agent_fork", "region_open", "region_commit",
                     "region_read", "region_write"):
            getattr(self._library, f"agentmem_{name}").restype = ctypes.c_int32
        for name in ("agent_close", "region_close"):
            function = getattr(self._library, f"agentmem_{name}")
            function.argtypes, function.restype = [ctypes.c_void_p], None

    def open(self, name, region_bytes=0, version=0):
        """With `region_bytes` for writing, made if it is not there."""
        return OpenAgent(self, name, region_bytes, version)

    def delete(self, name):
        self._call("agent_delete", self._client, name.encode(),
                   self._timeout_ns)

    def fork(self, name, to, version=0):
        self._call("agent_fork", self._client, name.encode(),
                   ctypes.c_uint64(version), to.encode(), self._timeout_ns)

    def retain_last(self, name, count):
        self._call("agent_set_retention", self._client, name.encode(),
                   ctypes.c_uint32(RETAIN_LAST), ctypes.c_uint64(count),
                   self._timeout_ns)


class OpenAgent:
    def __init__(self, client, name, region_bytes, version):
        self._client = client
        self._agent = ctypes.c_void_p()
        self._region = ctypes.c_void_p()
        writes = region_bytes != 0
        options = _AgentOptions(ctypes.sizeof(_AgentOptions),
                                WRITE if writes else 0, writes)
        client._call("agent_open", client._client, name.encode(),
                     ctypes.byref(options), client._timeout_ns,
                     ctypes.byref(self._agent))
        region = _RegionOptions(size=ctypes.sizeof(_RegionOptions),
                                force_explicit=1, bytes=region_bytes,
                                version=version)
        try:
            client._call("region_open", self._agent, b"heap",
                         ctypes.byref(region), client._timeout_ns,
                         ctypes.byref(self._region))
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        library = self._client._library
        library.agentmem_region_close(self._region)
        library.agentmem_agent_close(self._agent)
        self._region, self._agent = ctypes.c_void_p(), ctypes.c_void_p()

    def write(self, data, offset=0):
        self._client._call("region_write", self._region,
                           ctypes.c_uint64(offset), data,
                           ctypes.c_uint64(len(data)),
                           self._client._timeout_ns)

    def commit(self):
        options = _CommitOptions(size=ctypes.sizeof(_CommitOptions),
                                 ack=DURABLE)
        version = ctypes.c_uint64()
        self._client._call("region_commit", self._region,
                           ctypes.byref(options), self._client._timeout_ns,
                           ctypes.byref(version))
        return version.value

    def read(self, length, offset=0):
        buffer = ctypes.create_string_buffer(length)
        self._client._call("region_read", self._region,
                           ctypes.c_uint64(offset), buffer,
                           ctypes.c_uint64(length), self._client._timeout_ns)
        return buffer.raw
