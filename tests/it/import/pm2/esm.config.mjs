export default {
  apps: [
    {
      name: `worker-pool`,
      script: `${__dirname}/bin/worker`,
      args: [`--queue`, `mail`],
      instances: require('os').cpus().length,
      env: loadEnv('production'),
      onStart() { console.log('up'); },
    },
  ],
};
