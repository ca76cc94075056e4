/* Stands for NVIDIA's library: two cards, the second of them 87 % full and used by nobody that can be seen. */
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned gpu, memory; } rates;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(unsigned long)(index + 1); return 0; }
int nvmlDeviceGetMemoryInfo(void *device, memory *out) {
  out->total = 100ULL << 30;
  out->used = (device == (void *)2 ? 87ULL : 12ULL) << 30;
  out->free = out->total - out->used;
  return 0;
}
int nvmlDeviceGetUtilizationRates(void *device, rates *out) { out->gpu = 40; out->memory = 1; return device == (void *)2 ? 3 : 0; }
int nvmlDeviceGetUUID(void *device, char *out, unsigned room) {
  const char *text = device == (void *)2 ? "GPU-two" : "GPU-one";
  for (unsigned at = 0; at < room && (out[at] = text[at]); at++) {}
  return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, void *out) { (void)device; (void)out; *count = 0; return 0; }
