// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

/// @title A list of releases that is searched for duplicates
/// @notice A minimal reconstruction of how a published system refuses to record the same image twice: it compares the new
/// content address with each earlier one. The contract is only for measurements; do not deploy it.
contract LoopingRegistry is Ownable {
    struct Firmware {
        string version;
        string ipfsAddress;
        uint256 time;
    }

    Firmware[] private _releases;

    constructor(address initialOwner) Ownable(initialOwner) {}

    function upload(string calldata version, string calldata ipfsAddress) external onlyOwner {
        for (uint256 i = 0; i < _releases.length; ++i) {
            require(keccak256(bytes(_releases[i].ipfsAddress)) != keccak256(bytes(ipfsAddress)), "duplicate");
        }
        _releases.push(Firmware(version, ipfsAddress, block.timestamp));
    }

    function newest() external view returns (Firmware memory) {
        return _releases[_releases.length - 1];
    }
}
