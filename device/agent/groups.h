/* The groups and commands of SMP that the agent knows. */
#ifndef BLOCKOTA_GROUPS_H
#define BLOCKOTA_GROUPS_H

enum { GROUP_OS = 0, GROUP_IMAGE = 1, GROUP_DEVICE = 64 };

/* The commands of the group of BlockOTA (docs/device.md, "Commands"). */
enum {
  DEVICE_IDENTITY = 0,
  DEVICE_DELTA = 1,
  DEVICE_EVENTS = 2,
  DEVICE_SECTORS = 3,
  DEVICE_SESSION = 4,
  DEVICE_OPEN = 5,
};

#endif
