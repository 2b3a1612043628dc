// Debian's gRPC, Protobuf and Abseil are not built for TSan: it does not see
// how they order their threads, and takes what they do to memory for races.
// Reports of our own code are not suppressed.
#if defined(__SANITIZE_THREAD__)
#define AGENTMEM_UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define AGENTMEM_UNDER_TSAN 1
#endif
#endif

#ifdef AGENTMEM_UNDER_TSAN
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return "called_from_lib:libgrpc.so\n"
         "called_from_lib:libgrpc++.so\n"
         "called_from_lib:libgpr.so\n"
         "called_from_lib:libprotobuf.so\n"
         "race:google::protobuf::\n"
         "race:grpc::ProtoBufferReader\n"
         "race:grpc::ProtoBufferWriter\n"
         "race:libgrpc.so\n"
         "race:libgrpc++.so\n"
         "race:libprotobuf.so\n"
         "race:libabsl_\n";
}
#endif
