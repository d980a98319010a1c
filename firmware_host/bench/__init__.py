"""Flash boards over their serial ports: the commands of a technician's bench."""
