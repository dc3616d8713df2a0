/* A library with the entry points of the SSSE32 family, for tests. The device's name is the path of a unix socket, behind
 * which simulators/vendor_unit.py holds the cards. It believes whatever it is told, as vendors' libraries do: lengths that
 * are none, and orders to crash, to hang, to chatter and to write where it should not.
 *
 *     gcc -shared -fPIC -o libssse32.so ssse32.c
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { STATUS = 1, POWER_ON, POWER_OFF, APPLICATION, INPUT_PASS, SOUND };
enum { OBEY, CRASH, HANG, CHATTER, OVERRUN };
enum { CONNECT_ERROR = -11, NOT_CONNECTED = -12, PARAMETER_ERROR = -14 };

struct __attribute__((packed)) request { uint8_t call, slot; uint32_t length; };
struct __attribute__((packed)) reply { int32_t status; uint8_t manner; uint32_t length; };

static int line = -1;

static int receive(void *into, size_t length) {
  return length == 0 || recv(line, into, length, MSG_WAITALL) == (ssize_t)length;
}

static long ask(long handle, uint8_t call, uint8_t slot, const void *data, uint32_t length, uint8_t *out,
                uint32_t *filled) {
  struct request request = {call, slot, length};
  struct reply reply;
  if (handle != line || line < 0) return NOT_CONNECTED;
  if (send(line, &request, sizeof request, MSG_NOSIGNAL) < 0 || (length && send(line, data, length, MSG_NOSIGNAL) < 0) ||
      !receive(&reply, sizeof reply))
    return CONNECT_ERROR;
  switch (reply.manner) {
    case CRASH: *(volatile int *)0 = 0; break;
    case HANG: for (;;) pause();
    case CHATTER: for (int i = 0; i < 100000; i++) puts("chatter that could hold a PIN"); fflush(stdout); break;
    case OVERRUN: if (out) memset(out, 0xEE, 16 << 20); break;
  }
  if (reply.length && (!out || !receive(out, reply.length))) return CONNECT_ERROR;
  if (filled) *filled = reply.length;
  return reply.status;
}

long ICC_Reader_Open(char *name) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(name) >= sizeof address.sun_path) return PARAMETER_ERROR;
  strcpy(address.sun_path, name);
  line = socket(AF_UNIX, SOCK_STREAM, 0);
  if (line < 0 || connect(line, (struct sockaddr *)&address, sizeof address) < 0) return CONNECT_ERROR;
  return line;
}

long ICC_Reader_Close(long handle) { return handle == line ? close(line) : NOT_CONNECTED; }

long ICC_Reader_GetStatus(long handle, unsigned char slot) { return ask(handle, STATUS, slot, 0, 0, 0, 0); }

long ICC_Reader_PowerOn(long handle, unsigned char slot, unsigned char *response) {
  return ask(handle, POWER_ON, slot, 0, 0, response, 0);
}

long ICC_Reader_PowerOff(long handle, unsigned char slot) { return ask(handle, POWER_OFF, slot, 0, 0, 0, 0); }

long ICC_Reader_Application(long handle, unsigned char slot, long length, unsigned char *command,
                            unsigned char *response) {
  return ask(handle, APPLICATION, slot, command, length, response, 0);
}

#ifndef WITHOUT_KEYPAD
long ICC_DispSound(long handle, unsigned char type, unsigned char mode) {
  (void)mode;
  return ask(handle, SOUND, type, 0, 0, 0, 0);
}

long ICC_GetInputPass(long handle, unsigned char seconds, unsigned char *count, unsigned char start,
                      unsigned char stop, unsigned char *pin) {
  uint32_t filled = 0;
  uint8_t settings[] = {seconds, start, stop};
  long status = ask(handle, INPUT_PASS, 0, settings, sizeof settings, pin, &filled);
  *count = filled;
  return status;
}
#endif
