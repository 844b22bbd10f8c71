<?php printf("hello from %08d\n", getmypid());
