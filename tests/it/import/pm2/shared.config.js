'use strict';
const env = {
  NODE_ENV: 'production', // for all
  TZ: 'UTC',
};
const base = { cwd: '/srv/app', autorestart: true, time: true };

module.exports = {
  apps: [
    { name: 'one', script: 'one.js', ...base, env },
    { name: 'two', script: 'two.js', ...base, env: { ...env, PORT: '4002' } },
  ],
};
