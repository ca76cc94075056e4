/**
 * @type {import('pm2').StartOptions}
 */
module.exports = {
  apps: [
    {
      name: 'nest-api',
      script: 'dist/main.js',
      interpreter: 'node',
      interpreter_args: ['-r', 'dotenv/config'],
      instances: 1,
      autorestart: true,
      watch: false,
      max_memory_restart: '300M',
      kill_timeout: 1600,
      pid_file: './nest.pid',
      vizion: false,
      unknown_key: { deep: [1, 2, { x: 'y' }] },
    },
  ],
};
