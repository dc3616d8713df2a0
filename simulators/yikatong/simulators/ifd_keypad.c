/* A driver for pcscd of a card reader with keys, for tests. Its DEVICENAME is the path of a unix socket, behind which
 * simulators/keypad_reader.py holds the card and the person: it understands PC/SC part 10, this only passes on.
 *
 *     gcc -shared -fPIC -I/usr/include/PCSC -o libifdkeypad.so ifd_keypad.c
 */
#include <ifdhandler.h>
#include <pcsclite.h>
#include <reader.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { PRESENCE = 1, POWER_ON, POWER_OFF, TRANSMIT, FEATURES, VERIFY };

#define VERIFY_CODE SCARD_CTL_CODE(0x330006)

struct __attribute__((packed)) request { uint8_t call; uint32_t length; };
struct __attribute__((packed)) reply { int32_t status; uint32_t length; };

static int line = -1;
static uint8_t atr[MAX_ATR_SIZE];
static uint32_t atr_length;

static int receive(void *into, size_t length) {
  return length == 0 || recv(line, into, length, MSG_WAITALL) == (ssize_t)length;
}

/* The other end's status; its data go to `out`, which has room for `room` bytes. */
static RESPONSECODE ask(uint8_t call, const void *data, uint32_t length, uint8_t *out, uint32_t room, uint32_t *filled) {
  struct request request = {call, length};
  struct reply reply;
  if (filled) *filled = 0;
  if (send(line, &request, sizeof request, MSG_NOSIGNAL) < 0 || (length && send(line, data, length, MSG_NOSIGNAL) < 0) ||
      !receive(&reply, sizeof reply))
    return IFD_NO_SUCH_DEVICE;
  if (reply.length > room || !receive(out, reply.length)) return IFD_COMMUNICATION_ERROR;
  if (filled) *filled = reply.length;
  return reply.status;
}

RESPONSECODE IFDHCreateChannelByName(DWORD lun, LPSTR name) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  (void)lun;
  if (strlen(name) >= sizeof address.sun_path) return IFD_COMMUNICATION_ERROR;
  strcpy(address.sun_path, name);
  line = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  return line < 0 || connect(line, (struct sockaddr *)&address, sizeof address) < 0 ? IFD_NO_SUCH_DEVICE : IFD_SUCCESS;
}

RESPONSECODE IFDHCreateChannel(DWORD lun, DWORD channel) {
  (void)lun, (void)channel;
  return IFD_NOT_SUPPORTED;
}

RESPONSECODE IFDHCloseChannel(DWORD lun) {
  (void)lun;
  return close(line) < 0 ? IFD_COMMUNICATION_ERROR : IFD_SUCCESS;
}

RESPONSECODE IFDHGetCapabilities(DWORD lun, DWORD tag, PDWORD length, PUCHAR value) {
  (void)lun;
  switch (tag) {
    case TAG_IFD_ATR:
    case SCARD_ATTR_ATR_STRING:
      if (*length < atr_length) return IFD_ERROR_INSUFFICIENT_BUFFER;
      *length = atr_length;
      memcpy(value, atr, atr_length);
      return IFD_SUCCESS;
    case TAG_IFD_SLOTS_NUMBER:
    case TAG_IFD_SIMULTANEOUS_ACCESS:
      *length = 1;
      *value = 1;
      return IFD_SUCCESS;
  }
  return IFD_ERROR_TAG;
}

RESPONSECODE IFDHSetCapabilities(DWORD lun, DWORD tag, DWORD length, PUCHAR value) {
  (void)lun, (void)tag, (void)length, (void)value;
  return IFD_ERROR_TAG;
}

RESPONSECODE IFDHSetProtocolParameters(DWORD lun, DWORD protocol, UCHAR flags, UCHAR pts1, UCHAR pts2, UCHAR pts3) {
  (void)lun, (void)protocol, (void)flags, (void)pts1, (void)pts2, (void)pts3;
  return IFD_SUCCESS;
}

RESPONSECODE IFDHPowerICC(DWORD lun, DWORD action, PUCHAR answer, PDWORD length) {
  (void)lun;
  RESPONSECODE status = ask(action == IFD_POWER_DOWN ? POWER_OFF : POWER_ON, 0, 0, atr, sizeof atr, &atr_length);
  memcpy(answer, atr, atr_length);
  *length = atr_length;
  return status;
}

RESPONSECODE IFDHTransmitToICC(DWORD lun, SCARD_IO_HEADER send, PUCHAR command, DWORD length, PUCHAR answer,
                               PDWORD room, PSCARD_IO_HEADER received) {
  uint32_t filled;
  (void)lun, (void)send, (void)received;
  RESPONSECODE status = ask(TRANSMIT, command, length, answer, *room, &filled);
  *room = filled;
  return status;
}

RESPONSECODE IFDHControl(DWORD lun, DWORD code, PUCHAR data, DWORD length, PUCHAR answer, DWORD room, LPDWORD returned) {
  uint32_t filled = 0;
  RESPONSECODE status = IFD_ERROR_NOT_SUPPORTED;
  (void)lun;
  if (code == CM_IOCTL_GET_FEATURE_REQUEST) status = ask(FEATURES, 0, 0, answer, room, &filled);
  if (code == VERIFY_CODE) status = ask(VERIFY, data, length, answer, room, &filled);
  *returned = filled;
  return status;
}

RESPONSECODE IFDHICCPresence(DWORD lun) {
  (void)lun;
  return ask(PRESENCE, 0, 0, 0, 0, 0);
}
